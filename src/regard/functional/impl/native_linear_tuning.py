"""Measure up to how many rows the native linear layer is faster than PyTorch's: a part of ``regard doctor --tune``."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from regard.functional.impl.native_linear import DTYPES, native_linear

__all__ = ["LINEAR_ROWS", "LinearRung", "LinearTrial", "most_rows", "tune_linear"]

LINEAR_ROWS = (1, 2, 4, 8, 16)
"""Rows that are measured."""
_WEIGHTS = 8, 3072, 768  # together larger than a cache, as those of a model that is run step by step
_ROUNDS = 7


@dataclass(frozen=True, kw_only=True)
class LinearTrial:
    """One layer that a timer runs: ``"native"`` or ``"torch"``, on so many rows of a type."""

    peer: str
    dtype: str
    rows: int
    run: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class LinearRung:
    """What was measured for a number of rows.

    Attributes:
        dtype: type of PyTorch by name.
        rows: of the input.
        ratio: median over the rounds of native time / PyTorch's time.
        upper_ratio: the upper quartile of the same; where it is below 1 the native layer wins.
    """

    dtype: str
    rows: int
    ratio: float
    upper_ratio: float


def tune_linear(timer: Callable[[LinearTrial], float] | None = None) -> tuple[LinearRung, ...]:
    """Measure both on each number of rows in each type, in turn; about a second.

    Args:
        timer: runs a trial and returns the seconds it took.
    """
    return tuple(_measure(dtype, rows, timer or _seconds_of) for dtype in DTYPES for rows in LINEAR_ROWS)


def most_rows(rungs: Sequence[LinearRung]) -> dict[str, int | None]:
    """Return for each type the most rows up to which the native layer wins, None where it loses at a single one."""
    found: dict[str, int | None] = {}
    for dtype in dict.fromkeys(rung.dtype for rung in rungs):
        measured = sorted((rung for rung in rungs if rung.dtype == dtype), key=lambda rung: rung.rows)
        lost = next((at for at, rung in enumerate(measured) if not rung.upper_ratio < 1), len(measured))
        found[dtype] = measured[lost - 1].rows if lost else None
    return found


@torch.no_grad()
def _measure(dtype: str, rows: int, timer: Callable[[LinearTrial], float]) -> LinearRung:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(*_WEIGHTS, generator=generator).to(getattr(torch, dtype)).unbind(0)
    x = torch.randn(rows, _WEIGHTS[-1], generator=generator).to(getattr(torch, dtype))
    trials = [
        LinearTrial(peer=peer, dtype=dtype, rows=rows, run=lambda one=one: [one(x, weight, None) for weight in weights])  # type: ignore[misc]
        for peer, one in (("native", native_linear), ("torch", F.linear))
    ]
    for trial in trials:
        timer(trial)
    ratios = []
    for number in range(_ROUNDS):
        # Each round begins with the other one, so that neither always follows the same.
        taken = {trial.peer: timer(trial) for trial in (trials if number % 2 == 0 else reversed(trials))}
        ratios.append(taken["native"] / taken["torch"])
    upper = statistics.quantiles(ratios, n=4, method="inclusive")[2]
    return LinearRung(dtype=dtype, rows=rows, ratio=statistics.median(ratios), upper_ratio=upper)


def _seconds_of(trial: LinearTrial) -> float:
    began = time.perf_counter()
    trial.run()
    return time.perf_counter() - began
