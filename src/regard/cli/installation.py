"""What this installation of regard has and will run: the facts that ``regard doctor`` shows."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from regard import __version__
from regard._errors import ArgumentError
from regard.cli.openmp import OpenMP
from regard.functional import kernels, selected_impl

__all__ = ["Choice", "Installation", "Package", "RegionInForce", "examine"]

_PACKAGES = (
    ("transformers", "transformers", "hf", "models of Hugging Face, callbacks for their Trainer"),
    ("accelerate", "accelerate", "hf", "callbacks for Hugging Face's Trainer"),
    ("datasets", "datasets", "hf", "data sets of the Hugging Face hub"),
    ("tokenizers", "tokenizers", "train", "turning text into tokens"),
    ("scikit-learn", "sklearn", "train", "the linear baseline"),
    ("jinja2", "jinja2", "train", "report.html"),
    ("lightning", "lightning", "lightning", "callbacks for Lightning"),
    ("tensorboard", "tensorboard", "tensorboard", "statistics for TensorBoard"),
    ("prometheus-client", "prometheus_client", "serve", "statistics for Prometheus"),
    ("loguru", "loguru", "loguru", "logs through loguru"),
    ("structlog", "structlog", "structlog", "logs through structlog"),
    ("triton", "triton", "triton", "attention kernels for GPUs"),
    ("polars", "polars", None, "tables as polars data frames"),
    ("pandas", "pandas", None, "tables as pandas data frames"),
)
"""Distribution, module, the extra that brings it, what it is for."""
_SHAPES = ((16, 12, 128, 64), (4, 12, 512, 64), (1, 12, 2048, 64))


@dataclass(frozen=True, kw_only=True)
class Package:
    """An optional package; ``version`` is None where it is not installed."""

    name: str
    version: str | None
    unlocks: str
    install: str


@dataclass(frozen=True, kw_only=True)
class RegionInForce:
    """The figures that ``impl="auto"`` goes by.

    Attributes:
        origin: ``"measured"``, ``"built in"`` or ``"none"``; None without native kernels, which alone need figures.
        path: where measured figures are kept, or would be.
        figures: None where they cannot be read.
        problem: why they cannot.
        outdated: why figures that were measured are not used; None where they are, or there are none.
    """

    origin: str | None
    path: str
    figures: kernels.Region | None = None
    problem: str | None = None
    outdated: str | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What ``impl="auto"`` takes for a call of self-attention."""

    device: str
    shape: tuple[int, int, int, int]
    dtype: str
    training: bool
    impl: str


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What is installed, what is in force, and what is wrong with it.

    Attributes:
        versions: of regard, Python and torch.
        devices: what PyTorch can compute on -> what that is.
        threads: how many PyTorch uses on the CPU.
        native: the native kernels.
        amx: whether the processor has matrix units that PyTorch uses.
        openmp: runtimes loaded once torch and the native kernels are.
        region: where the native kernels are taken.
        choices: what ``impl="auto"`` takes; empty where that fails, as one of the problems says.
        packages: optional ones.
        problems: one sentence for each thing that is installed and broken.
        warnings: one sentence for each thing that works and should not be so.
    """

    versions: dict[str, str]
    devices: dict[str, str]
    threads: int
    native: kernels.NativeKernels
    amx: bool
    openmp: OpenMP
    region: RegionInForce
    choices: tuple[Choice, ...]
    packages: tuple[Package, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def examine() -> Installation:
    """Find out what is there, and try the native kernels."""
    native = kernels.native_kernels()
    region = _region(native)
    problems = tuple(problem for problem in (native.problem, region.problem) if problem is not None)
    openmp = OpenMP.of_this_process(Path(torch.__file__).parent.parent)
    devices = _devices()
    return Installation(
        versions={"regard": __version__, "Python": platform.python_version(), "torch": str(torch.__version__)},
        devices=devices,
        threads=torch.get_num_threads(),
        native=native,
        amx=kernels.has_amx(),
        openmp=openmp,
        region=region,
        choices=() if problems else tuple(_choices(devices)),
        packages=tuple(_package(*fields) for fields in _PACKAGES),
        problems=problems,
        warnings=tuple(warning for warning in (region.outdated, openmp.warning) if warning is not None),
    )


def _devices() -> dict[str, str]:
    found = {"cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"}
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        for number in range(torch.accelerator.device_count()):
            found[f"{accelerator.type}:{number}"] = _name_of(accelerator.type, number)
    return found


def _name_of(kind: str, number: int) -> str:
    backend: Any = getattr(torch, kind, None)
    return str(backend.get_device_name(number)) if hasattr(backend, "get_device_name") else kind


def _region(native: kernels.NativeKernels) -> RegionInForce:
    path = str(kernels.region_path())
    if not native.works:
        return RegionInForce(origin=None, path=path)
    try:
        return RegionInForce(
            origin=kernels.region_origin(),
            path=path,
            figures=kernels.this_machine(),
            outdated=kernels.outdated_region(),
        )
    except ArgumentError as error:
        return RegionInForce(origin="measured", path=path, problem=str(error))


def _choices(devices: dict[str, str]) -> Iterator[Choice]:
    # Devices of one kind choose alike.
    for device in dict.fromkeys(name.partition(":")[0] for name in devices):
        for shape in _SHAPES:
            for training in (False, True):
                for dtype in kernels.DTYPES:
                    tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device, requires_grad=training)
                    with torch.set_grad_enabled(training):
                        impl = selected_impl(tensor, tensor, tensor)
                    yield Choice(device=device, shape=shape, dtype=dtype, training=training, impl=impl)


def _package(name: str, module: str, extra: str | None, unlocks: str) -> Package:
    install = f"pip install {name}" if extra is None else f'pip install "regard[{extra}]"'
    return Package(name=name, version=_version(name, module), unlocks=unlocks, install=install)


def _version(name: str, module: str) -> str | None:
    if find_spec(module) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # a folder on the path, not installed
        return "unknown"
