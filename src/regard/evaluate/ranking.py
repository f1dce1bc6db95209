"""One-vs-rest AUC-ROC by ranks, exact with ties, for one set of rows or for all its bootstrap resamples at once."""

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["one_vs_rest_auc"]


def one_vs_rest_auc(
    true: Int[np.ndarray, " rows"],
    scores: Float[np.ndarray, "rows classes"],
    *,
    counts: Float[np.ndarray, "rows resamples"] | None = None,
) -> Float[np.ndarray, "*resamples classes"]:
    """Return, per class, the chance that a row of it scores higher than a row of another class.

    A tie counts half, so a constant score gives exactly 0.5. Counting pairs along the sorted scores gives the area
    under the ROC curve without the curve.

    Args:
        true: class of each row, 0 to classes - 1.
        scores: score of each row for each class; only their order matters.
        counts: how often each row occurs in each resample; None counts every row once.

    Returns:
        Areas from 0 to 1 of shape (classes,), or (resamples, classes) if ``counts`` is given; NaN, that is undefined,
        where a class has no rows or all of them.

    References:
        Hanley and McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve,
        Radiology 143, 1982.
    """
    weights = np.ones((len(true), 1)) if counts is None else counts
    areas = np.stack([_area(true == k, scores[:, k], weights) for k in range(scores.shape[1])], axis=-1)
    return np.asarray(areas[0] if counts is None else areas)


def _area(
    positive: Bool[np.ndarray, " rows"], score: Float[np.ndarray, " rows"], counts: Float[np.ndarray, "rows resamples"]
) -> Float[np.ndarray, " resamples"]:
    order = np.argsort(score, kind="stable")
    score, positive, counts = score[order], positive[order], counts[order]
    below = np.zeros((len(score) + 1, counts.shape[1]))  # below[i]: negatives among the i lowest scores
    np.cumsum(np.where(positive[:, None], 0.0, counts), axis=0, out=below[1:])
    ours = counts[positive]
    lower = below[np.searchsorted(score, score[positive], side="left")]
    not_higher = below[np.searchsorted(score, score[positive], side="right")]
    won = (ours * (lower + not_higher)).sum(axis=0) / 2
    pairs = ours.sum(axis=0) * below[-1]
    return np.asarray(np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0))
