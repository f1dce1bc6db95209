import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.evaluate import bootstrap, percentile_interval, resample_counts


def test_each_resample_draws_as_many_rows_as_there_are():
    (counts,) = resample_counts(50, num_resamples=20, seed=0)
    assert counts.shape == (50, 20)
    np.testing.assert_array_equal(counts.sum(axis=0), np.full(20, 50))


def test_same_seed_gives_the_same_counts_and_another_seed_others():
    first, again, other = (next(resample_counts(50, num_resamples=20, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_counts_do_not_depend_on_the_block(monkeypatch):
    (whole,) = resample_counts(31, num_resamples=20, seed=0)
    monkeypatch.setattr(bootstrap, "_CELLS", 31 * 7)
    blocks = list(resample_counts(31, num_resamples=20, seed=0))
    assert [block.shape[1] for block in blocks] == [7, 7, 6]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


def test_interval_of_a_mean_has_the_width_of_theory():
    values = np.random.default_rng(0).normal(size=2000)
    (counts,) = resample_counts(2000, num_resamples=1000, seed=0)
    interval = percentile_interval(float(values.mean()), counts.T @ values / 2000, name="mean")
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert interval.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        hits = (generator.random(300) < 0.8).astype(float)
        (counts,) = resample_counts(300, num_resamples=400, seed=seed)
        interval = percentile_interval(float(hits.mean()), counts.T @ hits / 300, name="accuracy")
        covered += interval.low <= 0.8 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_undefined_value_has_a_note_and_no_number():
    interval = percentile_interval(float("nan"), np.array([0.5]), name="auc_roc", undefined="no row of 'b'")
    assert (interval.value, interval.low, interval.high, interval.note) == (None, None, None, "no row of 'b'")


def test_undefined_resamples_are_left_out_and_counted():
    interval = percentile_interval(0.5, np.array([0.4, np.nan, 0.6, np.nan]), name="auc_roc")
    assert interval.note == "auc_roc is undefined in 2 of 4 resamples, which are left out"
    assert (interval.low, interval.high) == (pytest.approx(0.405), pytest.approx(0.595))


def test_no_defined_resample_leaves_the_interval_open():
    interval = percentile_interval(0.5, np.array([np.nan]), name="auc_roc")
    assert (interval.value, interval.low, interval.high) == (0.5, None, None)
    assert "in 1 of 1 resamples" in interval.note


@pytest.mark.parametrize(("num_rows", "num_resamples"), [(0, 10), (10, 0)])
def test_nothing_to_draw_is_refused(num_rows, num_resamples):
    with pytest.raises(ArgumentError, match="at least one row and one resample"):
        next(resample_counts(num_rows, num_resamples=num_resamples))
