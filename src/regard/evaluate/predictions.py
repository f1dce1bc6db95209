"""What a classifier said about the rows of a split: the one shape in which models and baselines are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError, DtypeError

__all__ = ["Predictions", "checked_labels"]

_KINDS = ("model", "baseline")
# Softmax in float32 sums to one within 1e-6; half precision rounds to within a few 1e-3 and is worth a complaint.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The answers of one model to the rows of one split, checked on construction.

    Attributes:
        name: what a person reads in the table of models, such as ``MiniLM fine-tuned``.
        kind: ``model`` or ``baseline``.
        scores: (rows, classes), finite; a larger score means more of that class. Kept as float64.
        predicted: (rows,), the class that the model names, 0 to classes - 1. Kept as int64.
        are_probabilities: whether each row of ``scores`` is a distribution; only then is there a calibration error.
        details: chosen hyperparameters, seconds, parameters; plain values that fit into JSON.

    Raises:
        ArgumentError: ``kind`` is neither, or the arrays do not belong together.
        DtypeError: ``predicted`` does not hold integers.
        DataError: a score is NaN or infinite, a class is out of range, or probabilities do not sum to one.
    """

    name: str
    kind: str
    scores: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    are_probabilities: bool
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ArgumentError(f"The kind of {self.name!r} must be 'model' or 'baseline', got {self.kind!r}.")
        scores = np.asarray(self.scores, dtype=np.float64)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ArgumentError(
                f"Scores of {self.name!r} must have shape (rows, classes) with two or more classes, got {scores.shape}."
            )
        object.__setattr__(self, "scores", scores)
        predicted = checked_labels(
            self.predicted, num_classes=scores.shape[1], what=f"predicted classes of {self.name!r}"
        )
        object.__setattr__(self, "predicted", predicted)
        if len(predicted) != len(scores):
            raise ArgumentError(
                f"{self.name!r} must have one predicted class per row of scores, "
                f"got {len(predicted)} classes for {len(scores)} rows."
            )
        _check_finite(scores, self.name)
        if self.are_probabilities:
            _check_probabilities(scores, self.name)

    @property
    def num_rows(self) -> int:
        """Number of rows that were answered."""
        return len(self.predicted)

    @property
    def num_classes(self) -> int:
        """Number of classes that were scored."""
        return int(self.scores.shape[1])


def checked_labels(labels: npt.ArrayLike, *, num_classes: int, what: str) -> npt.NDArray[np.int64]:
    """Return ``labels`` as int64 (rows,).

    Args:
        labels: class of each row, 0 to ``num_classes`` - 1.
        num_classes: how many classes there are.
        what: whose labels they are, for the message.

    Raises:
        ArgumentError: they are not one list.
        DtypeError: they are not integers.
        DataError: one is out of range, or there is none.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ArgumentError(f"The {what} must be one list, got an array of shape {array.shape}.")
    if not len(array):
        raise DataError(f"The {what} must hold at least one row, got none; an empty split cannot be scored.")
    if not np.issubdtype(array.dtype, np.integer):
        raise DtypeError(f"The {what} must be integers, got {array.dtype}; pass the class index of each row.")
    outside = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(outside):
        row = int(outside[0])
        raise DataError(f"The {what} must lie between 0 and {num_classes - 1}, got {int(array[row])} at row {row}.")
    return array.astype(np.int64)


def _check_finite(scores: npt.NDArray[np.float64], name: str) -> None:
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise DataError(
            f"Scores of {name!r} must be finite, got NaN or infinity in {len(broken)} of {len(scores)} rows, "
            f"first at row {int(broken[0])}; look for the step at which the loss became NaN."
        )


def _check_probabilities(scores: npt.NDArray[np.float64], name: str) -> None:
    sums = scores.sum(axis=1)
    broken = np.flatnonzero((scores.min(axis=1) < 0) | (np.abs(sums - 1) > _SUM_TOLERANCE))
    if len(broken):
        row = int(broken[0])
        raise DataError(
            f"Probabilities of {name!r} must be at least 0 and sum to 1 in each row, got a sum of {sums[row]:.6g} and "
            f"a least value of {scores[row].min():.6g} at row {row}; "
            "apply softmax in float32 or set are_probabilities=False."
        )
