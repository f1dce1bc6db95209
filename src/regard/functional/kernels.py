"""What computes attention here: the native kernels, whether they are right, and where ``impl="auto"`` takes them.

The door to ``impl`` for those who show or measure an installation; who only computes needs ``attention``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import torch
from torch import Tensor

from regard.functional import reference
from regard.functional.impl.native import instruction_set, native_available
from regard.functional.impl.native_attention import native_with_lse
from regard.functional.impl.native_linear_tuning import LINEAR_ROWS, LinearRung, most_rows, tune_linear
from regard.functional.impl.native_region import (
    Conditions,
    Region,
    outdated_region,
    region_origin,
    region_path,
    this_machine,
)
from regard.functional.impl.native_tuning import DTYPES, LADDERS, PEERS, Ladder, Rung, Size, Tuning, tune
from regard.functional.impl.torch_private import has_amx

__all__ = [
    "DTYPES",
    "LADDERS",
    "LINEAR_ROWS",
    "PEERS",
    "Conditions",
    "Ladder",
    "LinearRung",
    "NativeKernels",
    "Region",
    "Rung",
    "Size",
    "Tuning",
    "has_amx",
    "most_rows",
    "native_kernels",
    "outdated_region",
    "region_origin",
    "region_path",
    "this_machine",
    "tune",
    "tune_linear",
]


@dataclass(frozen=True, kw_only=True)
class NativeKernels:
    """What ``regard-native`` is on this machine.

    Attributes:
        version: of the package; None where it is not installed.
        instruction_sets: those that the processor and the library have, the fastest first.
        chosen: the one that is used.
        problem: why the kernels cannot be used although they are installed; None where they can.
    """

    version: str | None
    instruction_sets: tuple[str, ...] = ()
    chosen: str | None = None
    problem: str | None = None

    @property
    def works(self) -> bool:
        """Whether they are installed and right."""
        return self.version is not None and self.problem is None


def native_kernels() -> NativeKernels:
    """Load the native kernels, let them compute one small call in each type, and compare it with float64."""
    if not native_available():
        return NativeKernels(version=None)
    names: tuple[str, ...] = ()
    chosen = None
    try:
        names = _instruction_sets()
        chosen = instruction_set()
        problem = _deviation()
    except (OSError, RuntimeError, AttributeError) as error:  # no library, another version of it, a wrong REGARD_ISA
        problem = str(error)
    return NativeKernels(version=_version(), instruction_sets=names, chosen=chosen, problem=problem)


def _version() -> str:
    try:
        return metadata.version("regard-native")
    except metadata.PackageNotFoundError:  # found on the path, not installed
        return "unknown"


def _instruction_sets() -> tuple[str, ...]:
    import regard_native

    found: tuple[str, ...] = regard_native.instruction_sets()
    return found


def _deviation() -> str | None:
    """Return what differs from the reference by more than twice the error of eager code in the same type, or None."""
    for name in DTYPES:
        dtype = getattr(torch, name)
        found = _output_and_gradients(_native, dtype)
        eager = _output_and_gradients(reference.attention, dtype)
        exact = _output_and_gradients(reference.attention, dtype, computed_in=torch.float64)
        error, allowed = _error(found, exact), 2 * _error(eager, exact) + 16 * torch.finfo(dtype).eps * _largest(exact)
        if not error <= allowed:  # an error that is not a number is not within the budget either
            return (
                f"The native kernels must agree with float64 within {allowed:.1e} in {name}, got {error:.1e}; "
                "install regard-native again, or name another instruction set in REGARD_ISA."
            )
    return None


def _native(query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
    return native_with_lse(query, key, value, causal=causal)[0]


def _output_and_gradients(
    call: Callable[..., Tensor], dtype: torch.dtype, *, computed_in: torch.dtype | None = None
) -> Tensor:
    """Return what ``call`` makes of three heads, and the gradients of query, key and value, as one row of float64."""
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(1, 3, length, 24, generator=generator).to(dtype).to(computed_in or dtype).requires_grad_()
        for length in (33, 40, 40)
    ]
    with torch.enable_grad():
        output = call(*leaves, causal=True)
        grads = torch.autograd.grad(output.double().square().sum(), leaves)
    return torch.cat([values.detach().double().flatten() for values in (output, *grads)])


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max())


def _largest(exact: Tensor) -> float:
    return max(1.0, float(exact.abs().max()))
