import numpy as np
import pytest
from sklearn import metrics as oracle

from regard.evaluate import accuracy, confusion_matrix, f1, macro, precision, recall, tally


def _rows(seed, num_rows=400, num_classes=6, absent=()):
    generator = np.random.default_rng(seed)
    classes = [k for k in range(num_classes) if k not in absent]
    true = generator.choice(classes, num_rows, p=generator.dirichlet(np.ones(len(classes))))
    predicted = np.where(generator.random(num_rows) < 0.7, true, generator.choice(classes, num_rows))
    return true, predicted


CASES = [(0, ()), (1, ()), (2, (3,)), (3, (0, 5))]


@pytest.mark.parametrize(("seed", "absent"), CASES)
def test_accuracy_equals_scikit_learn(seed, absent):
    true, predicted = _rows(seed, absent=absent)
    assert accuracy(tally(true, predicted, num_classes=6)) == pytest.approx(
        oracle.accuracy_score(true, predicted), abs=1e-9
    )


@pytest.mark.parametrize(("seed", "absent"), CASES)
def test_per_class_and_macro_equal_scikit_learn(seed, absent):
    true, predicted = _rows(seed, absent=absent)
    found = tally(true, predicted, num_classes=6)
    expected = oracle.precision_recall_fscore_support(true, predicted, labels=range(6), zero_division=0)
    ours = (precision(found), recall(found), f1(found), found.support)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)
    for mine, theirs in zip(ours[:3], expected[:3], strict=True):
        assert macro(mine) == pytest.approx(theirs.mean(), abs=1e-9)


@pytest.mark.parametrize(("seed", "absent"), CASES)
def test_confusion_matrix_equals_scikit_learn(seed, absent):
    true, predicted = _rows(seed, absent=absent)
    expected = oracle.confusion_matrix(true, predicted, labels=range(6))
    np.testing.assert_array_equal(confusion_matrix(true, predicted, num_classes=6), expected)


def test_class_never_predicted_has_precision_zero():
    found = tally(np.array([0, 1, 2]), np.array([0, 1, 1]), num_classes=3)
    np.testing.assert_array_equal(precision(found), [1, 0.5, 0])


def test_counting_a_row_twice_equals_repeating_it():
    true, predicted = _rows(4)
    counts = np.random.default_rng(0).integers(0, 3, size=(len(true), 5)).astype(float)
    found = tally(true, predicted, num_classes=6, counts=counts)
    for i in range(5):
        repeats = counts[:, i].astype(int)
        alone = tally(true.repeat(repeats), predicted.repeat(repeats), num_classes=6)
        np.testing.assert_array_equal([found.hits[i], found.predicted[i], found.support[i]], alone)
        assert accuracy(found)[i] == accuracy(alone)
