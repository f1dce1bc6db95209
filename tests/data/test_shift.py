import math

import pytest

from regard._errors import ArgumentError
from regard.data import label_shift


def test_same_mix_has_no_shift():
    shift = label_shift({"a": 300, "b": 100}, {"a": 30, "b": 10})

    assert shift.psi == pytest.approx(0, abs=1e-3)
    assert shift.chi_square == 0
    assert shift.p_value == 1


def test_one_label_cannot_shift():
    shift = label_shift({"a": 3}, {"a": 5})

    assert (shift.psi, shift.chi_square, shift.p_value) == (0, 0, 1)


@pytest.mark.parametrize(
    "counts",
    [([30, 70], [60, 40]), ([50, 30, 20], [45, 35, 20]), ([9, 1, 5, 20], [5, 5, 9, 11]), ([900, 1], [10, 800])],
)
def test_chi_square_is_that_of_scipy(counts):
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which scikit-learn of regard[train] brings")
    expected = stats.chi2_contingency(counts, correction=False)

    shift = label_shift(*(dict(zip("abcd", row, strict=False)) for row in counts))

    assert shift.chi_square == pytest.approx(expected.statistic)
    assert shift.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_stability_index_is_its_formula():
    shift = label_shift({"a": 7, "b": 3}, {"a": 4, "b": 6})

    shares = ((7.5 / 11, 4.5 / 11), (3.5 / 11, 6.5 / 11))
    assert shift.psi == pytest.approx(sum((one - other) * math.log(one / other) for one, other in shares))


def test_label_on_one_side_only_is_a_finite_strong_shift():
    shift = label_shift({"a": 100}, {"b": 100})

    assert 0.25 < shift.psi < math.inf
    assert shift.p_value < 1e-9


def test_empty_split_is_refused():
    with pytest.raises(ArgumentError, match="must hold a document, got 3 and 0"):
        label_shift({"a": 3}, {})
