import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from regard.evaluate import one_vs_rest_auc


def _rows(seed, num_rows=300, num_classes=4, digits=None):
    generator = np.random.default_rng(seed)
    true = generator.integers(num_classes, size=num_rows)
    scores = generator.normal(size=(num_rows, num_classes))
    scores[np.arange(num_rows), true] += 1
    return true, scores if digits is None else scores.round(digits)


@pytest.mark.parametrize("digits", [None, 1, 0], ids=["no ties", "some ties", "mostly ties"])
def test_area_equals_scikit_learn(digits):
    true, scores = _rows(0, digits=digits)
    expected = [roc_auc_score(true == k, scores[:, k]) for k in range(4)]
    np.testing.assert_allclose(one_vs_rest_auc(true, scores), expected, atol=1e-9)


def test_macro_mean_equals_scikit_learn_one_vs_rest():
    true, scores = _rows(1)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = roc_auc_score(true, probabilities, multi_class="ovr", average="macro")
    assert one_vs_rest_auc(true, probabilities).mean() == pytest.approx(expected, abs=1e-9)


def test_constant_score_gives_one_half():
    np.testing.assert_array_equal(one_vs_rest_auc(np.array([0, 1, 1]), np.zeros((3, 2))), [0.5, 0.5])


def test_class_without_rows_is_undefined():
    areas = one_vs_rest_auc(np.array([0, 1, 0]), np.array([[2.0, 1, 0], [0, 2, 1], [3, 0, 1]]))
    np.testing.assert_array_equal(np.isnan(areas), [False, False, True])


def test_class_of_every_row_is_undefined():
    assert np.isnan(one_vs_rest_auc(np.array([1, 1]), np.array([[0.0, 1], [1, 0]]))).all()


def test_counting_a_row_twice_equals_repeating_it():
    true, scores = _rows(2, digits=1)
    counts = np.random.default_rng(0).integers(0, 3, size=(len(true), 5)).astype(float)
    areas = one_vs_rest_auc(true, scores, counts=counts)
    for i in range(5):
        repeats = counts[:, i].astype(int)
        expected = [roc_auc_score(true.repeat(repeats) == k, scores[:, k].repeat(repeats)) for k in range(4)]
        np.testing.assert_allclose(areas[i], expected, atol=1e-9)
