import numpy as np
import pytest

from regard.viewer.report.series import extremes, smooth, smooth_ratio


def test_a_spike_of_one_step_survives_the_reduction():
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[54_321], y[12_345] = 9.0, -7.0

    reduced_x, reduced_y = extremes(x, y, 200)

    assert len(reduced_x) <= 400
    assert reduced_x[reduced_y.argmax()] == 54_321
    assert reduced_x[reduced_y.argmin()] == 12_345
    assert (np.diff(reduced_x) > 0).all()


def test_a_long_gap_stays_a_gap():
    y = np.ones(10_000)
    y[4_000:6_000] = np.nan

    _, reduced = extremes(np.arange(10_000.0), y, 100)

    assert np.isnan(reduced).any()


def test_a_short_curve_is_kept_as_it_is():
    x = np.arange(10.0)

    assert extremes(x, x**2, 5)[1].tolist() == (x**2).tolist()


@pytest.mark.parametrize("window", [1, 5, 100])
def test_smoothing_keeps_a_constant(window):
    assert smooth(np.full(20, 3.0), window) == pytest.approx(np.full(20, 3.0))


def test_smoothing_does_not_lag():
    line = np.arange(100.0)

    assert smooth(line, 11)[10:90] == pytest.approx(line[10:90])


def test_smoothing_leaves_nan_out_and_in_place():
    smoothed = smooth(np.array([1.0, np.nan, 3.0]), 3)

    assert np.isnan(smoothed).tolist() == [False, True, False]
    assert smoothed[[0, 2]].tolist() == [1.0, 3.0]


def test_smoothing_for_a_logarithmic_axis_weighs_factors_alike():
    assert smooth_ratio(np.array([0.01, 1.0, 100.0]), 3)[1] == pytest.approx(1.0)


def test_smoothing_for_a_logarithmic_axis_leaves_out_what_is_not_positive():
    assert smooth_ratio(np.array([2.0, 0.0, 2.0]), 3)[[0, 2]] == pytest.approx([2.0, 2.0])
