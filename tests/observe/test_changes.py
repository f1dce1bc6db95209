"""Heads that behave unlike themselves stand out; noise, trends and constants do not."""

import numpy as np
import pytest
import torch
from scipy import stats

from regard._errors import ArgumentError
from regard.observe.changes import ChangeScores
from regard.observe.moments import Moments


def of(*heads: float, rows: int = 1) -> Moments:
    """Summarise one statistic: every row of a head has the same value."""
    values = torch.tensor(heads, dtype=torch.float64)[None, None, :, None].expand(1, 1, len(heads), rows)
    every = torch.ones(1, 1, rows, dtype=torch.bool)
    return Moments.of(values, every, ~every, num_all=rows)


def filled(series: np.ndarray, *, window: int = 64, statistic: str = "entropy") -> ChangeScores:
    """Remember (steps, heads) of the layer ``a`` from step 1."""
    changes = ChangeScores(window)
    for step, heads in enumerate(series.tolist(), start=1):
        changes.add(step, "a", (statistic,), of(*heads))
    return changes


def test_the_score_is_the_last_step_against_the_window_before_it() -> None:
    series = np.random.default_rng(0).normal(3, 0.5, (40, 3))
    found = filled(series, window=16).scores("a", "entropy").numpy()
    before = series[-17:-1]
    median = np.median(before, 0)
    mad = stats.median_abs_deviation(before, 0)
    floor = 1e-3 * np.maximum(np.abs(median), np.median(np.abs(median)))
    np.testing.assert_allclose(found, (series[-1] - median) / (1.4826 * mad + floor), rtol=1e-12)


def test_a_head_that_jumps_is_told_and_no_other() -> None:
    series = np.random.default_rng(1).normal(3, 0.1, (65, 4))
    series[-1] = [3.0, 3.1, 0.5, 2.9]
    changes = filled(series)
    (row,) = changes.inconsistent()
    assert {name: row[name] for name in ("layer", "statistic", "head", "step")} == {
        "layer": "a",
        "statistic": "entropy",
        "head": 2,
        "step": 65,
    }
    assert row["value"] == 0.5
    assert row["median"] == pytest.approx(3, abs=0.1)
    assert row["score"] < -8
    assert changes.inconsistent(100.0) == []


def test_outliers_among_the_steps_before_do_not_hide_a_jump() -> None:
    series = np.random.default_rng(2).normal(3, 0.1, (40, 1))
    series[5:15] = 50
    series[-1] = 10
    assert len(filled(series).inconsistent()) == 1


@pytest.mark.parametrize("level", [0.0, 1e-4, 1.0, 1e4])
def test_float_noise_of_a_constant_is_not_told(level: float) -> None:
    rng = np.random.default_rng(3)
    series = np.full((40, 2), level)
    series[-1] *= 1 + 1e-6 * rng.normal(size=2)
    assert filled(series).inconsistent() == []
    series[-1] = level * 1.05 + (0.05 if level == 0 else 0)
    assert len(filled(series).inconsistent()) == 2


def test_a_head_at_zero_is_measured_by_the_heads_beside_it() -> None:
    series = np.tile([0.0, 1.0, 1.0], (20, 1))
    series[-1, 0] = 1e-4
    assert filled(series).inconsistent() == []
    series[-1, 0] = 1e-2
    assert [row["head"] for row in filled(series).inconsistent()] == [0]


def test_a_steady_trend_is_not_told() -> None:
    assert filled(np.linspace(4, 1, 65)[:, None]).inconsistent() == []


def test_too_few_steps_have_no_score() -> None:
    series = np.random.default_rng(4).normal(3, 1, (9, 2))
    series[3, 1] = np.nan
    scores = filled(series).scores("a", "entropy")
    assert scores.isnan().tolist() == [False, True]
    assert filled(series[:8]).scores("a", "entropy").isnan().all()
    assert filled(series[:1]).scores("a", "entropy").isnan().all()
    assert filled(series[:1]).inconsistent() == []


def test_the_ring_forgets_the_oldest_steps() -> None:
    changes = filled(np.arange(30.0)[:, None], window=8)
    steps, values = changes.history("a", "entropy")
    assert steps == list(range(22, 31))
    assert values[:, 0].tolist() == [step - 1.0 for step in steps]


def test_calls_of_one_step_are_merged_by_their_rows() -> None:
    changes = ChangeScores()
    for step in (1, 2):
        changes.add(step, "a", ("entropy",), of(1.0, 2.0, rows=3))
        changes.add(step, "a", ("entropy",), of(5.0, 6.0, rows=1))
    steps, values = changes.history("a", "entropy")
    assert steps == [1, 2]
    assert values.tolist() == [[2.0, 3.0], [2.0, 3.0]]


def test_a_statistic_is_one_series_however_the_statistics_come_together() -> None:
    changes = ChangeScores(window=8)
    for step in range(1, 30):
        both = step % 3 == 0
        one = of(float(step))
        moments = Moments(sums=torch.cat([one.sums] * 2, 1), lows=torch.cat([one.lows] * 2, 1)) if both else one
        changes.add(step, "a", ("entropy", "distance") if both else ("entropy",), moments)
    steps, values = changes.history("a", "entropy")
    assert steps == list(range(21, 30))
    assert values[:, 0].tolist() == [float(step) for step in steps]
    assert changes.history("a", "distance")[0] == [3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert changes.series == [("a", "entropy"), ("a", "distance")]


def test_a_run_that_goes_back_forgets_what_came_after() -> None:
    changes = filled(np.arange(20.0)[:, None], window=8)
    changes.add(15, "a", ("entropy",), of(-1.0))
    steps, values = changes.history("a", "entropy")
    assert steps == [12, 13, 14, 15]
    assert values[:, 0].tolist() == [11.0, 12.0, 13.0, -1.0]


def test_a_layer_with_other_heads_begins_anew() -> None:
    changes = filled(np.zeros((10, 2)))
    changes.add(11, "a", ("entropy",), of(1.0, 2.0, 3.0))
    assert changes.history("a", "entropy")[0] == [11]


def test_change_from_batch_to_batch_is_relative_to_the_level() -> None:
    series = np.random.default_rng(5).normal(0, 1, (50, 3)) * [0.5, 0.05, 0] + 2
    found = filled(series).inconsistency("a", "entropy").numpy()
    expected = 1.4826 * stats.median_abs_deviation(series, 0) / np.abs(np.median(series, 0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found[2] == 0
    assert filled(series[:7]).inconsistency("a", "entropy").isnan().all()


def test_the_largest_scores_come_first() -> None:
    series = np.random.default_rng(6).normal(3, 0.1, (30, 3))
    series[-1] = [6, 20, -3]
    found = filled(series).inconsistent()
    assert [abs(row["score"]) for row in found] == sorted((abs(row["score"]) for row in found), reverse=True)
    assert found[0]["head"] == 1


def test_what_was_not_seen_is_refused() -> None:
    changes = filled(np.zeros((1, 1)))
    with pytest.raises(ArgumentError, match=r"\['a entropy'\]; got a distance"):
        changes.scores("a", "distance")
    with pytest.raises(ArgumentError, match="window must be at least 8 steps, got 7"):
        ChangeScores(7)
    with pytest.raises(ArgumentError, match=r"threshold must be above 0, got 0\.0"):
        changes.inconsistent(0.0)


def test_next_to_nothing_is_no_change_of_nothing() -> None:
    series = np.zeros((20, 2))
    series[-1] = 1e-12
    assert filled(series).inconsistent() == []
    series[-1] = 1e-6
    assert len(filled(series).inconsistent()) == 2


def test_a_series_is_that_of_the_newest_heads() -> None:
    changes = filled(np.zeros((10, 2)))
    three = of(1.0, 2.0, 3.0)
    both = Moments(sums=torch.cat([three.sums] * 2, 1), lows=torch.cat([three.lows] * 2, 1))
    changes.add(11, "a", ("entropy", "distance"), both)
    assert changes.history("a", "entropy")[0] == [11]
    assert changes.scores("a", "entropy").shape == (3,)
