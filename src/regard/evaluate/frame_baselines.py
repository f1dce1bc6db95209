"""What a model of frames has to beat: nearest centroid, nearest neighbour, and a linear model that got a fair chance.

On short sequences a linear model of a few summaries is hard to beat, and it takes milliseconds; the table always says
so.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from regard._errors import DataError
from regard.evaluate.predictions import Predictions

__all__ = [
    "LINEAR_SUMMARIES",
    "NEAREST_CENTROID",
    "NEAREST_NEIGHBOUR",
    "TRAINING_MEAN",
    "linear_summaries",
    "mean_frames",
    "nearest_centroid",
    "nearest_neighbour",
    "sequence_summaries",
]

NEAREST_CENTROID = "nearest centroid of mean frames"
NEAREST_NEIGHBOUR = "nearest neighbour of mean frames"
LINEAR_SUMMARIES = "linear model of summaries"
TRAINING_MEAN = "training mean"

_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # times the number of sequences

_Features = Float[np.ndarray, "_rows features"]
_Outputs = Float[np.ndarray, "_rows outputs"]
_Labels = Int[np.ndarray, " _rows"]


def mean_frames(frames: Sequence[npt.NDArray[np.floating]]) -> _Features:
    """Return the mean frame of each sequence, (sequences, channels)."""
    return np.stack([one.mean(0, dtype=np.float64) for one in frames])


def sequence_summaries(frames: Sequence[npt.NDArray[np.floating]]) -> _Features:
    """Return mean, deviation, first, last, smallest and largest value of each channel, (sequences, 6 · channels)."""
    return np.stack(
        [
            np.concatenate([one.mean(0), one.std(0), one[0], one[-1], one.min(0), one.max(0)], dtype=np.float64)
            for one in frames
        ]
    )


def nearest_centroid(train: _Features, labels: _Labels, rows: _Features, *, num_classes: int) -> Predictions:
    """Answer with the class whose mean is nearest, features brought to one scale over the training rows.

    Args:
        train: of the training rows.
        labels: their classes, each of which occurs.
        rows: of the rows to answer.
        num_classes: classes.

    Raises:
        DataError: a class has no training row.
    """
    _check_classes(labels, num_classes)
    known, asked = _scaled(train, rows)
    centroids = np.stack([known[labels == number].mean(0) for number in range(num_classes)])
    return _named(NEAREST_CENTROID, -_distances(asked, centroids), features=train.shape[1])


def nearest_neighbour(train: _Features, labels: _Labels, rows: _Features, *, num_classes: int) -> Predictions:
    """Answer with the class of the nearest training row; the arguments are those of ``nearest_centroid``.

    References:
        Cover and Hart, Nearest neighbor pattern classification (1967).
    """
    _check_classes(labels, num_classes)
    known, asked = _scaled(train, rows)
    nearest = [_distances(asked, known[labels == number]).min(1) for number in range(num_classes)]
    return _named(NEAREST_NEIGHBOUR, -np.stack(nearest, axis=1), features=train.shape[1])


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """A ridge regression with an intercept: features · weight + mean of the outputs."""

    weight: Float[np.ndarray, "features outputs"]
    intercept: Float[np.ndarray, " outputs"]

    @classmethod
    def fit(cls, features: _Features, outputs: _Outputs, ridge: float) -> "_Linear":
        """Fit centred features by least squares, exactly."""
        intercept = outputs.mean(0)
        moments = features.T @ features + ridge * len(features) * np.eye(features.shape[1])
        return cls(weight=np.linalg.solve(moments, features.T @ (outputs - intercept)), intercept=intercept)

    def __call__(self, features: _Features) -> _Outputs:
        answers: _Outputs = features @ self.weight + self.intercept
        return answers


def linear_summaries(
    train: tuple[_Features, _Outputs],
    validation: tuple[_Features, _Outputs],
    rows: _Features,
    *,
    cost: Callable[[_Outputs, _Outputs], float],
) -> tuple[_Outputs, dict[str, Any]]:
    """Fit ridge regressions, keep the strength with the least cost on validation, fit it again on both and answer.

    For classes the outputs are 1 and 0, and the largest answer names the class.

    Args:
        train: features and outputs to fit.
        validation: those to choose by.
        rows: features of the rows to answer.
        cost: of answers and outputs; the smallest wins, ties go to the stronger ridge.

    Returns:
        The answers, and how they came about: plain values that fit into JSON.

    References:
        Hoerl and Kennard, Ridge regression (1970).
    """
    began = time.perf_counter()
    known, held = _scaled(train[0], validation[0])
    costs = {ridge: cost(_Linear.fit(known, train[1], ridge)(held), validation[1]) for ridge in _RIDGES}
    chosen = min(reversed(_RIDGES), key=lambda ridge: costs[ridge])
    both = np.concatenate([train[0], validation[0]])
    known, asked = _scaled(both, rows)
    model = _Linear.fit(known, np.concatenate([train[1], validation[1]]), chosen)
    details = {
        "ridge": chosen,
        "parameters": int(model.weight.size + model.intercept.size),
        "chosen_by": "validation rows",
        "num_candidates": len(_RIDGES),
        "refitted_on": "train and validation rows",
        "seconds": round(time.perf_counter() - began, 4),
    }
    return model(asked), details


def _scaled(train: _Features, rows: _Features) -> tuple[_Features, _Features]:
    """Bring both to mean 0 and deviation 1 over ``train``; a feature that does not vary there becomes 0."""
    mean, scale = train.mean(0), train.std(0)
    varies = scale > 0
    factor = np.where(varies, 1 / np.where(varies, scale, 1.0), 0.0)
    return (train - mean) * factor, (rows - mean) * factor


def _distances(rows: _Features, others: _Features) -> _Outputs:
    """Return the squared distance of each row from each of ``others``, a row at a time: no array of all features."""
    return np.stack([np.square(others - row).sum(1) for row in rows])


def _named(name: str, scores: _Outputs, **details: Any) -> Predictions:
    return Predictions(
        name=name,
        kind="baseline",
        scores=scores,
        predicted=scores.argmax(axis=1),
        are_probabilities=False,
        details=details,
    )


def _check_classes(labels: _Labels, num_classes: int) -> None:
    absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(absent):
        raise DataError(f"Every class must have a train row, got none of class {absent[0]}; merge or drop the class.")
