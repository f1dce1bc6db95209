"""Accuracy and macro precision, recall and F1, exact, for one set of rows or for all its bootstrap resamples at once.

Every metric is a ratio of three counts per class. A bootstrap resample only changes how often each row counts, so the
same functions serve the point estimate (every row once) and a thousand resamples (a matrix of counts).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Tally", "accuracy", "confusion_matrix", "f1", "macro", "precision", "recall", "tally"]


class Tally(NamedTuple):
    """How the rows fall per class; shapes (classes,) or (resamples, classes).

    Attributes:
        hits: rows of the class that were also predicted as it.
        predicted: rows predicted as the class.
        support: rows of the class.
    """

    hits: Float[np.ndarray, "*resamples classes"]
    predicted: Float[np.ndarray, "*resamples classes"]
    support: Float[np.ndarray, "*resamples classes"]


def tally(
    true: Int[np.ndarray, " rows"],
    predicted: Int[np.ndarray, " rows"],
    *,
    num_classes: int,
    counts: Float[np.ndarray, "rows resamples"] | None = None,
) -> Tally:
    """Count hits, predictions and support of each class.

    Args:
        true: class of each row, 0 to ``num_classes`` - 1.
        predicted: class that the model named.
        num_classes: how many classes there are; absent ones are counted as 0.
        counts: how often each row occurs in each resample; None counts every row once.

    Returns:
        Counts of shape (classes,), or (resamples, classes) if ``counts`` is given.
    """
    is_true = _one_hot(true, num_classes)
    is_predicted = _one_hot(predicted, num_classes)
    hits = is_true * is_predicted
    if counts is None:
        return Tally(hits.sum(axis=0), is_predicted.sum(axis=0), is_true.sum(axis=0))
    return Tally(counts.T @ hits, counts.T @ is_predicted, counts.T @ is_true)


def accuracy(tally: Tally) -> Float[np.ndarray, "*resamples"]:
    """Return the share of rows whose class was named, 0 to 1."""
    return np.asarray(tally.hits.sum(axis=-1) / tally.support.sum(axis=-1))


def precision(tally: Tally) -> Float[np.ndarray, "*resamples classes"]:
    """Return, per class, the share of rows predicted as it that are of it; 0 for a class that was never predicted."""
    return _ratio(tally.hits, tally.predicted)


def recall(tally: Tally) -> Float[np.ndarray, "*resamples classes"]:
    """Return, per class, the share of its rows that were predicted as it; 0 for a class without rows."""
    return _ratio(tally.hits, tally.support)


def f1(tally: Tally) -> Float[np.ndarray, "*resamples classes"]:
    """Return, per class, the harmonic mean of precision and recall; 0 for a class neither present nor predicted."""
    return _ratio(2 * tally.hits, tally.predicted + tally.support)


def macro(per_class: Float[np.ndarray, "*resamples classes"]) -> Float[np.ndarray, "*resamples"]:
    """Return the unweighted mean over classes: a rare class counts as much as a common one."""
    return np.asarray(per_class.mean(axis=-1))


def confusion_matrix(
    true: Int[np.ndarray, " rows"], predicted: Int[np.ndarray, " rows"], *, num_classes: int
) -> Int[np.ndarray, "true_classes predicted_classes"]:
    """Count how many rows of each class (first axis) were predicted as each class (second axis)."""
    cells = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def _one_hot(labels: Int[np.ndarray, " rows"], num_classes: int) -> Float[np.ndarray, "rows classes"]:
    return np.asarray(labels[:, None] == np.arange(num_classes), dtype=np.float64)


def _ratio(
    part: Float[np.ndarray, "*resamples classes"], whole: Float[np.ndarray, "*resamples classes"]
) -> Float[np.ndarray, "*resamples classes"]:
    # 0/0 is 0 by convention (scikit-learn's zero_division=0), so that a class that is never found costs the macro mean.
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))
