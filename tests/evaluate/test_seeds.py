import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.evaluate import mean_interval, student_quantile, versus


@pytest.mark.parametrize("dof", [1, 2, 2.7, 5, 30, 1000, 1e9])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_quantile_is_that_of_the_tables(dof, level):
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which comes with regard[train]")

    assert student_quantile(dof, level=level) == pytest.approx(stats.t.ppf(0.5 + level / 2, dof), rel=1e-4)


def test_mean_over_seeds_is_the_t_interval():
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which comes with regard[train]")
    values = [0.91, 0.94, 0.92]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))

    found = mean_interval(values)

    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-4)


def test_difference_is_welchs():
    stats = pytest.importorskip("scipy.stats", reason="needs scipy, which comes with regard[train]")
    ours, theirs = [0.91, 0.94, 0.92, 0.90], [0.80, 0.88, 0.85]
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()

    found = versus(ours, theirs)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-4)


def test_rows_make_the_interval_wider():
    values = [0.91, 0.94, 0.92]
    alone, rows = mean_interval(values), mean_interval(values, row_variance=0.01**2)

    assert rows.high - rows.low < 2 * student_quantile(2) * (np.var(values, ddof=1) / 3 + 1e-4) ** 0.5
    assert rows.high - rows.low > 2 * 1.96 * 0.01
    assert alone.value == rows.value


def test_seeds_that_agree_leave_the_rows():
    found = mean_interval([0.9, 0.9, 0.9], row_variance=0.01**2)

    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.01, rel=1e-4)
    assert mean_interval([0.9, 0.9]).note == "all seeds and rows gave the same"


def test_interval_ends_where_values_must():
    found = mean_interval([0.99, 1.0, 0.98], low=0.0, high=1.0)

    assert found.high == 1.0


def test_interval_covers_the_truth_as_often_as_it_says():
    """Three seeds that spread, on rows that are drawn: the truth lies within in 95 of 100 experiments at least."""
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1500):
        rows = generator.normal(scale=0.01)
        found = mean_interval((rows + generator.normal(scale=0.01, size=3)).tolist(), row_variance=0.01**2)
        hits += found.low < 0 < found.high

    assert 0.95 < hits / 1500 < 0.99


def test_one_seed_is_refused():
    with pytest.raises(ArgumentError, match=r"two finite figures or more, got \[0.9\]"):
        mean_interval([0.9])
    with pytest.raises(ArgumentError, match="two finite figures or more"):
        versus([0.9, 0.8], [float("nan"), 0.8])
    with pytest.raises(ArgumentError, match="dof must be at least 1"):
        student_quantile(0.5)
