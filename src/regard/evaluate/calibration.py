"""Whether stated confidence is earned: reliability bins and the expected calibration error."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["NUM_BINS", "Reliability", "calibration_error", "reliability"]

NUM_BINS = 15
"""Equal-width bins over [0, 1], as in the paper."""


class Reliability(NamedTuple):
    """Bins over confidence; shapes (bins,).

    Attributes:
        low: lower edge of the bin, not in it (but 0 is in the first).
        high: upper edge, in it.
        confidence: mean confidence of its rows, NaN if it has none.
        accuracy: share of its rows that are right, NaN if it has none.
        num_rows: how many rows it has.
    """

    low: Float[np.ndarray, " bins"]
    high: Float[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    num_rows: Int[np.ndarray, " bins"]


def reliability(
    confidence: Float[np.ndarray, " rows"], correct: Bool[np.ndarray, " rows"], *, num_bins: int = NUM_BINS
) -> Reliability:
    """Compare mean confidence and accuracy in equal-width bins over confidence.

    Args:
        confidence: probability that the model gave to the class that it named, 0 to 1.
        correct: whether that class was right.
        num_bins: how many bins.
    """
    member = _membership(confidence, num_bins)
    count = member.sum(axis=0)
    edges = np.arange(num_bins + 1) / num_bins
    mean = [
        np.divide(value @ member, count, out=np.full(num_bins, np.nan), where=count > 0)
        for value in (confidence, correct.astype(np.float64))
    ]
    return Reliability(edges[:-1], edges[1:], mean[0], mean[1], count.astype(np.int64))


def calibration_error(
    confidence: Float[np.ndarray, " rows"],
    correct: Bool[np.ndarray, " rows"],
    *,
    counts: Float[np.ndarray, "rows resamples"] | None = None,
    num_bins: int = NUM_BINS,
) -> Float[np.ndarray, "*resamples"]:
    """Return the expected calibration error: the mean distance between confidence and accuracy of a row's bin, 0 to 1.

    Args:
        confidence: probability that the model gave to the class that it named, 0 to 1.
        correct: whether that class was right.
        counts: how often each row occurs in each resample; None counts every row once.
        num_bins: how many equal-width bins.

    Returns:
        A value of shape (), or (resamples,) if ``counts`` is given. Binning makes it biased upwards on few rows, and a
        resample has fewer different rows, so the bootstrap interval of a well calibrated model leans high.

    References:
        Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, eq. 3.
    """
    gap = _membership(confidence, num_bins) * (confidence - correct)[:, None]
    if counts is None:
        return np.asarray(np.abs(gap.sum(axis=0)).sum() / len(confidence))
    return np.asarray(np.abs(counts.T @ gap).sum(axis=1) / counts.sum(axis=0))


def _membership(confidence: Float[np.ndarray, " rows"], num_bins: int) -> Float[np.ndarray, "rows bins"]:
    edges = np.arange(1, num_bins) / num_bins
    bins = np.searchsorted(edges, confidence, side="left")
    return np.asarray(bins[:, None] == np.arange(num_bins), dtype=np.float64)
