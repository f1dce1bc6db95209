"""Remedies in how the machine is used: precision, threads, compiled code."""

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from regard.cost.parts import Part
from regard.cost.profile import BETWEEN, Profile
from regard.cost.workload import Precision, Workload

__all__ = ["Compile", "InPrecision", "Threads", "num_cores"]

_ELEMENTWISE = (Part.SUMS, Part.NORMS, Part.COPIES, Part.MASKS, BETWEEN)
_WORTH_COMPILING = 0.3


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class InPrecision:
    """Run in another precision, by autocast.

    Args:
        precision: which.
    """

    touches: Collection[Part | str] = ()

    def __init__(self, precision: Precision) -> None:
        self._precision: Precision = precision
        self.name = precision
        self.title = f"run in {precision}" + (" by autocast" if precision != "float32" else ", without autocast")
        self.changes = "rounding: half of the digits" if precision != "float32" else "rounding"

    def why(self, profile: Profile) -> str | None:
        """Return what the processor has to do with it: bfloat16 is worth it where there are instructions for it."""
        if profile.workload.precision == self._precision or profile.workload.device.type != "cpu":
            return None
        fast, reason = _fast_bfloat16()
        return reason if fast == (self._precision == "bfloat16") else None

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Give the workload the precision."""
        yield replace(workload, precision=self._precision)


class Threads:
    """Use as many threads as there are cores."""

    name = "threads"
    title = "use a thread for each core: torch.set_num_threads"
    changes = "nothing but the order of sums"
    touches: Collection[Part | str] = ()

    def why(self, profile: Profile) -> str | None:
        """Return how many threads and cores there are, where they differ."""
        cores = num_cores()
        return None if profile.threads == cores else f"{profile.threads} threads on {cores} cores"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Set the number of threads meanwhile."""
        before = torch.get_num_threads()
        torch.set_num_threads(num_cores())
        try:
            yield workload
        finally:
            torch.set_num_threads(before)


class Compile:
    """Compile the model once, before it is measured."""

    name = "compile"
    title = "compile the model: torch.compile"
    changes = "rounding; the first call of each shape takes long"
    touches = _ELEMENTWISE

    def __init__(self) -> None:
        self._compiled: dict[int, nn.Module] = {}

    def why(self, profile: Profile) -> str | None:
        """Return the share of what compiling can join or leave out."""
        share = profile.time_share(*_ELEMENTWISE)
        if share < _WORTH_COMPILING:
            return None
        return f"{share:.0%} of the time is elementwise work, copies and what lies between operators"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Give the compiled model, the same one each time."""
        known = id(workload.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, by the compiler itself
            if known not in self._compiled:
                self._compiled[known] = cast("nn.Module", torch.compile(workload.model))
            yield replace(workload, model=self._compiled[known])


def _fast_bfloat16() -> tuple[bool, str]:
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("amx_bf16"):
        return True, "this processor has matrix units (AMX) for bfloat16"
    if not capabilities.get("avx512_bf16"):
        return False, "this processor has no instructions for bfloat16"
    if _is_intel():
        return False, "this processor computes in bfloat16 no faster than in float32 (Intel without AMX)"
    return True, "this processor has instructions for bfloat16"


def _is_intel() -> bool:
    info = Path("/proc/cpuinfo")  # on another system the maker is not known
    return info.exists() and "GenuineIntel" in info.read_text(encoding="utf-8")
