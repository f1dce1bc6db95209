"""Curves made small enough to draw, without losing a spike."""

import numpy as np
import numpy.typing as npt

__all__ = ["extremes", "smooth"]

_Floats = npt.NDArray[np.float64]


def smooth(values: _Floats, window: int) -> _Floats:
    """Return the exponential mean of ``values`` over about ``window`` steps, without the bias of its start.

    NaN is left out of the mean and stays NaN.
    """
    decay = 1 - 1 / max(window, 1)
    total, weight = 0.0, 0.0
    smoothed = np.full_like(values, np.nan)
    for index, value in enumerate(values):
        if np.isfinite(value):
            total, weight = decay * total + value, decay * weight + 1
            smoothed[index] = total / weight
    return smoothed


def extremes(x: _Floats, y: _Floats, num_bins: int) -> tuple[_Floats, _Floats]:
    """Reduce a curve to at most ``2 * num_bins`` points: the least and the largest of each bin, in their order.

    A spike of one step cannot vanish. A bin that holds a NaN and no number gives one NaN, so that a gap stays a gap.
    """
    if len(x) <= 2 * num_bins:
        return x, y
    kept: list[int] = []
    for part in np.array_split(np.arange(len(x)), num_bins):
        numbers = part[np.isfinite(y[part])]
        if len(numbers):
            kept += sorted({int(numbers[y[numbers].argmin()]), int(numbers[y[numbers].argmax()])})
        else:
            kept.append(int(part[0]))
    return x[kept], y[kept]
