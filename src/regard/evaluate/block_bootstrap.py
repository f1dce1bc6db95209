"""The circular block bootstrap: intervals for rows that follow one another in time and are alike because of it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from regard._errors import ArgumentError
from regard.evaluate.bootstrap import NUM_RESAMPLES

__all__ = ["block_counts"]

_CELLS = 4 * 2**20  # bounds the largest array at 32 MiB of float64


def block_counts(
    num_rows: int, block_len: int, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Iterator[Float[np.ndarray, "rows resamples"]]:
    """Yield, in parts of some resamples, how often each row was drawn when whole stretches are drawn.

    Errors of forecasts from neighbouring origins are nearly the same error. A bootstrap that draws each alone takes
    thousands of them for thousands of facts and gives an interval several times too narrow; drawn in stretches longer
    than their memory, each stretch counts as the one fact that it is. The series is closed to a circle, so that every
    row is drawn as often.

    Args:
        num_rows: rows, in the order of time.
        block_len: rows in a stretch; the last one of a resample is cut to end with ``num_rows`` rows in all.
        num_resamples: how many resamples in all.
        seed: the same seed gives the same counts.

    Raises:
        ArgumentError: there is no resample to draw, or the stretch is not between one row and all of them.

    References:
        Politis and Romano, A circular block-resampling procedure for stationary data (1992); Künsch, The jackknife and
        the bootstrap for general stationary observations (Annals of Statistics 1989).
    """
    if num_resamples < 1 or not 1 <= block_len <= num_rows:
        raise ArgumentError(
            f"A block bootstrap needs a resample and a block of 1 to {num_rows} rows, got {num_resamples} and "
            f"{block_len}."
        )
    generator = np.random.default_rng(seed)
    num_blocks = -(-num_rows // block_len)
    part = max(1, min(num_resamples, _CELLS // num_rows))
    for begin in range(0, num_resamples, part):
        size = min(part, num_resamples - begin)
        starts = generator.integers(num_rows, size=(size, num_blocks))
        rows = (starts[:, :, None] + np.arange(block_len)) % num_rows
        cells = rows.reshape(size, -1)[:, :num_rows] * size + np.arange(size)[:, None]
        yield np.bincount(cells.ravel(), minlength=num_rows * size).reshape(num_rows, size).astype(np.float64)
