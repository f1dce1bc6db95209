"""Curves made small enough to draw, without losing a spike."""

import numpy as np
import numpy.typing as npt

__all__ = ["extremes", "smooth", "smooth_ratio"]

_Floats = npt.NDArray[np.float64]


def smooth(values: _Floats, window: int) -> _Floats:
    """Return the mean of ``values`` over about ``window`` neighbours, half before and half after, fewer at the ends.

    NaN is left out of the mean and stays NaN.
    """
    known = np.isfinite(values)
    reach = max(0, window // 2)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    index = np.arange(len(values))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    mean = (totals[high] - totals[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.where(known, mean, np.nan)


def smooth_ratio(values: _Floats, window: int) -> _Floats:
    """Return the geometric mean of positive ``values`` over neighbours, as ``smooth``, for a logarithmic axis."""
    logarithms = np.log(np.where(values > 0, values, np.nan))
    return np.exp(smooth(logarithms, window))


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
