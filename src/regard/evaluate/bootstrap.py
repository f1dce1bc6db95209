"""The percentile bootstrap over rows: how far a metric could have come out otherwise on another such test set."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from regard._errors import ArgumentError
from regard.records import Interval

__all__ = ["LEVEL", "NUM_RESAMPLES", "percentile_interval", "resample_counts"]

NUM_RESAMPLES = 1000
LEVEL = 0.95
# Bounds the largest array at 32 MiB of float64, whatever the number of rows.
_CELLS = 4 * 2**20


def resample_counts(
    num_rows: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, "rows resamples"]]:
    """Yield, in blocks of resamples, how often each row was drawn.

    A resample draws ``num_rows`` rows with replacement. Models that share the counts are compared row by row (paired).

    Args:
        num_rows: rows of the test set.
        num_resamples: how many resamples in all.
        seed: the same seed and sizes give the same counts, in blocks of the same size.

    Raises:
        ArgumentError: there is no row or no resample to draw.
    """
    if num_rows < 1 or num_resamples < 1:
        raise ArgumentError(f"A bootstrap needs at least one row and one resample, got {num_rows} and {num_resamples}.")
    generator = np.random.default_rng(seed)
    block = max(1, min(num_resamples, _CELLS // num_rows))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = generator.integers(num_rows, size=(size, num_rows))
        cells = drawn * size + np.arange(size)[:, None]
        counts = np.bincount(cells.ravel(), minlength=num_rows * size)
        yield counts.reshape(num_rows, size).astype(np.float64)


def percentile_interval(
    value: float, resampled: Float[np.ndarray, " resamples"], *, name: str, undefined: str | None = None
) -> Interval:
    """Return ``value`` between the 2.5th and the 97.5th percentile of its resamples.

    Args:
        value: the metric on the rows themselves; NaN where it is undefined.
        resampled: the metric on each resample; NaN where it is undefined.
        name: the metric's name, for the note.
        undefined: why ``value`` is NaN, in words.

    Returns:
        An interval without numbers but with a note where the metric is undefined. Resamples in which it is undefined
        are left out and counted in the note.
    """
    if np.isnan(value):
        return Interval(value=None, note=undefined or f"{name} is undefined on these rows")
    defined = resampled[~np.isnan(resampled)]
    left_out = len(resampled) - len(defined)
    note = f"{name} is undefined in {left_out} of {len(resampled)} resamples, which are left out" if left_out else None
    if not len(defined):
        return Interval(value=value, note=note)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), note=note)
