"""Which device and precision a job runs on, chosen from what the hardware has and said aloud."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from regard._errors import ArgumentError, UnsupportedError
from regard.functional import native_trains

__all__ = ["Hardware", "choose_hardware", "git_commit", "peak_bytes", "versions"]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The device, the autocast type (float32 for none) and why."""

    device: torch.device
    precision: torch.dtype
    reason: str
    name: str
    num_threads: int

    @property
    def attention_dtype(self) -> torch.dtype | None:
        """Precision of the attention core; None for that of autocast.

        It is float32 on a CPU under autocast, where PyTorch's float32 kernel is faster, unless the native kernels take
        the narrower type and win.
        """
        if self.device.type != "cpu" or self.precision == torch.float32 or native_trains(self.precision):
            return None
        return torch.float32

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``run.json``."""
        return {
            "type": self.device.type,
            "name": self.name,
            "precision": str(self.precision).removeprefix("torch."),
            "reason": self.reason,
            "num_threads": self.num_threads,
        }


def peak_bytes() -> int | None:
    """Return the largest memory that this process has had, or None where the system does not tell.

    Linux counts it for each program anew. What a parent is told of a child by ``wait4`` also holds what the parent had
    when it started the child.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def choose_hardware(device: str, precision: str) -> Hardware:
    """Return the hardware for ``device`` ("auto", "cpu", "cuda", …) and ``precision`` ("auto", "float32", "bfloat16").

    ``auto`` takes a GPU where there is one, and bfloat16 where the processor or GPU is faster in it: with AMX, or with
    AVX-512 bfloat16 unless the processor is of Intel, which runs that at no more than the rate of float32.

    Raises:
        ArgumentError: ``device`` is no device.
        UnsupportedError: a GPU is asked for by name and there is none.
    """
    chosen = _device(device)
    has, why = _bfloat16(chosen)
    dtype = torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and has) else torch.float32
    reason = why if precision == "auto" else f"{precision} was asked for; {why}"
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else _processor()
    return Hardware(device=chosen, precision=dtype, reason=reason, name=name, num_threads=torch.get_num_threads())


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("regard", "torch", "numpy", "tokenizers", "scikit-learn")
    found = {name: version(name) for name in packages}
    return {"python": platform.python_version(), "platform": platform.platform(), **found}


def git_commit() -> str | None:
    """Return the commit of the working folder, or None outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(f"device={name} needs a GPU that torch can see, got none; use device=auto or cpu.")
    return device


def _bfloat16(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return has, f"the GPU {'computes' if has else 'does not compute'} in bfloat16"
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("amx_bf16"):
        return True, "the processor computes in bfloat16 (AMX)"
    if not capabilities.get("avx512_bf16"):
        return False, "the processor has no bfloat16 arithmetic"
    if _cpuinfo("vendor_id") == "GenuineIntel":
        return False, "the processor is slower in bfloat16 than in float32 (Intel's AVX-512 without AMX)"
    return True, "the processor computes in bfloat16 (AVX-512)"


def _processor() -> str:
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _cpuinfo(field: str) -> str | None:
    """Return what Linux says of the first processor, or None where it is not known."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), None)
