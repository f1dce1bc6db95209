"""Curves from ``events.jsonl`` as arrays, and medians that one odd batch does not move."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.diagnose.rule import NotJudgedError
from regard.records import Run

__all__ = ["Curve", "rolling_median", "step_curve"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One value per step; a value that is not a finite number is NaN (JSON writes it as null)."""

    steps: npt.NDArray[np.int64]
    values: _Floats

    @property
    def finite(self) -> "Curve":
        """The same curve without its values that are not numbers."""
        keep = np.isfinite(self.values)
        return Curve(steps=self.steps[keep], values=self.values[keep])


def step_curve(run: Run, field: str, *, min_steps: int = 1) -> Curve:
    """Return ``field`` of the ``step`` events.

    Raises:
        NotJudgedError: fewer than ``min_steps`` step events have the field.
    """
    pairs = [(event["step"], event[field]) for event in run.events("step") if field in event]
    if not pairs:
        raise NotJudgedError(f"no step event with {field!r} was recorded")
    if len(pairs) < min_steps:
        raise NotJudgedError(f"a judgement of {field!r} needs at least {min_steps} steps, got {len(pairs)}")
    steps = np.array([step for step, _ in pairs], dtype=np.int64)
    values = np.array([np.nan if value is None else float(value) for _, value in pairs])
    return Curve(steps=steps, values=np.where(np.isfinite(values), values, np.nan))


def rolling_median(values: _Floats, window: int) -> _Floats:
    """Return the median of each ``window`` consecutive values; shorter than ``values`` by ``window - 1``."""
    return np.median(np.lib.stride_tricks.sliding_window_view(values, window), axis=-1)
