import numpy as np
import pytest

from regard._errors import ArgumentError, DataError, DtypeError
from regard.evaluate import Predictions

GOOD = {
    "name": "m",
    "kind": "model",
    "scores": np.array([[0.9, 0.1], [0.2, 0.8]]),
    "predicted": np.array([0, 1]),
    "are_probabilities": True,
}


def test_float32_scores_become_float64():
    predictions = Predictions(**{**GOOD, "scores": GOOD["scores"].astype(np.float32)})
    assert (predictions.scores.dtype, predictions.predicted.dtype) == (np.float64, np.int64)
    assert (predictions.num_rows, predictions.num_classes) == (2, 2)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kind": "oracle"}, ArgumentError, "'model' or 'baseline', got 'oracle'"),
        ({"scores": np.zeros(2)}, ArgumentError, r"shape \(rows, classes\).*got \(2,\)"),
        ({"scores": np.ones((2, 1))}, ArgumentError, "two or more classes"),
        ({"predicted": np.array([0])}, ArgumentError, "got 1 classes for 2 rows"),
        ({"predicted": np.array([0, 2])}, DataError, "between 0 and 1, got 2 at row 1"),
        ({"predicted": np.array([-1, 0])}, DataError, "between 0 and 1, got -1 at row 0"),
        ({"predicted": np.array([0.0, 1.0])}, DtypeError, "integers, got float64"),
        ({"predicted": np.array([[0, 1]])}, ArgumentError, "one list"),
        ({"predicted": np.zeros(0, int), "scores": np.zeros((0, 2))}, DataError, "at least one row, got none"),
        (
            {"scores": np.array([[0.9, 0.1], [np.nan, 0.8]])},
            DataError,
            "NaN or infinity in 1 of 2 rows, first at row 1",
        ),
        ({"scores": np.array([[0.9, 0.2], [0.2, 0.8]])}, DataError, "sum to 1 .* sum of 1.1 .* at row 0"),
        ({"scores": np.array([[1.2, -0.2], [0.2, 0.8]])}, DataError, "least value of -0.2 at row 0"),
    ],
)
def test_broken_predictions_are_refused_in_one_sentence(change, error, match):
    with pytest.raises(error, match=match):
        Predictions(**{**GOOD, **change})


def test_margins_need_not_sum_to_one():
    assert Predictions(**{**GOOD, "scores": np.array([[-3.0, 7], [1, 1]]), "are_probabilities": False}).num_rows == 2
