import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import (
    LinearMap,
    fit_linear_map,
    forecast_sums,
    naive_scale,
    repeat_last,
    score_forecasts,
    seasonal_naive,
)

INPUTS = np.arange(24.0).reshape(2, 6, 2)  # two windows of six rows of two channels


def series(length=400, channels=2, seed=0):
    generator = np.random.default_rng(seed)
    t = np.arange(length)[:, None]
    return np.sin(t / 5 + np.arange(channels)) + 0.1 * generator.normal(size=(length, channels)) + 3


def parts(values, input_len=20, horizon=6, size=50):
    """Return what yields windows, some at a time."""
    starts = np.arange(len(values) - input_len - horizon + 1)
    inputs = values[starts[:, None] + np.arange(input_len)]
    targets = values[starts[:, None] + input_len + np.arange(horizon)]
    return lambda: ((inputs[i : i + size], targets[i : i + size]) for i in range(0, len(starts), size))


def together(windows):
    inputs, targets = zip(*windows(), strict=True)
    return np.concatenate(inputs), np.concatenate(targets)


def test_last_value_is_repeated():
    assert repeat_last(INPUTS, horizon=3).tolist() == [[[10, 11]] * 3, [[22, 23]] * 3]


def test_last_season_is_repeated():
    found = seasonal_naive(INPUTS, horizon=5, season=2)

    assert found[0, :, 0].tolist() == [8, 10, 8, 10, 8]
    np.testing.assert_array_equal(seasonal_naive(INPUTS, horizon=3, season=1), repeat_last(INPUTS, horizon=3))
    with pytest.raises(ArgumentError, match="season must lie between 1 and the 6 rows"):
        seasonal_naive(INPUTS, horizon=5, season=7)


def test_linear_map_is_the_least_squares_solution():
    """A peer that forms no moments: lstsq over the windows themselves, with the winning centre and ridge."""
    train, held = parts(series()), parts(series(seed=1))
    found = fit_linear_map(train, held)
    inputs, targets = together(train)
    centre = {"none": 0.0, "last": inputs[:, -1:], "mean": inputs.mean(1, keepdims=True)}[found.centre]
    x, y = ((part - centre).transpose(0, 2, 1).reshape(-1, part.shape[1]) for part in (inputs, targets))
    ridge = found.details["ridge"] * np.trace(x.T @ x) / x.shape[1]
    rows = np.concatenate([x, np.sqrt(ridge) * np.eye(x.shape[1])])

    expected = np.linalg.lstsq(rows, np.concatenate([y, np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0].T

    np.testing.assert_allclose(found.weight, expected, atol=1e-6)


def test_linear_map_reports_the_validation_error_of_its_own_forecasts():
    train, held = parts(series()), parts(series(seed=1))
    found = fit_linear_map(train, held)
    inputs, targets = together(held)

    assert found.details["validation_mse"] == pytest.approx(np.square(found(inputs) - targets).mean(), rel=1e-9)
    assert found.details["num_candidates"] == 18


def test_linear_map_of_every_centre_forecasts_from_it():
    weight = np.full((2, 6), 0.5)
    last, mean = INPUTS[:, -1:], INPUTS.mean(1, keepdims=True)

    for centre, level in (("last", last), ("mean", mean), ("none", 0.0)):
        found = LinearMap(weight=weight, centre=centre, details={})(INPUTS)
        expected = 0.5 * (INPUTS - level).sum(1, keepdims=True) + level
        np.testing.assert_allclose(found, np.repeat(expected, 2, 1))


def test_linear_map_follows_a_level_that_it_has_not_seen():
    """Trained around 3 and judged around 30: a map with a centre is chosen, which does not care."""
    train, held = parts(series()), parts(series(seed=1) + 27)
    found = fit_linear_map(train, held)

    assert found.centre != "none"
    assert found.details["validation_mse"] < 0.1


def test_linear_map_without_windows_is_refused():
    with pytest.raises(ArgumentError, match="needs windows"):
        fit_linear_map(lambda: iter(()), lambda: iter(()))


def test_naive_scale_is_the_seasonal_error_of_training():
    values = np.stack([np.arange(10.0), np.arange(10.0) ** 2], 1)

    assert naive_scale(values, season=2).tolist() == [2.0, np.mean(np.arange(2.0, 10) ** 2 - np.arange(8.0) ** 2)]
    with pytest.raises(ArgumentError, match="season must lie between 1 and the 10"):
        naive_scale(values, season=10)
    with pytest.raises(DataError, match="Channel 0 repeats itself exactly every 2 rows"):
        naive_scale(np.tile([[1.0, 0.5], [2.0, 0.7]], (5, 1)) + np.array([0, 1]) * np.arange(10)[:, None], season=2)


def test_scores_are_means_over_windows_steps_and_channels():
    generator = np.random.default_rng(0)
    truth, scale = generator.normal(size=(30, 4, 2)), np.array([2.0, 0.5])
    said = {"model": truth + 0.5, "baseline": truth - np.array([1.0, 2.0])}
    rows = [forecast_sums(kind, kind, forecast, truth, scale=scale) for kind, forecast in said.items()]

    found = score_forecasts(rows, block_len=8)

    values = [{name: one["value"] for name, one in model["metrics"].items()} for model in found["models"]]
    assert values[0] == pytest.approx({"mse": 0.25, "mae": 0.5, "mase": 0.5 * (0.5 / 2 + 0.5 / 0.5)})
    assert values[1] == pytest.approx({"mse": 2.5, "mae": 1.5, "mase": 0.5 * (1 / 2 + 2 / 0.5)})
    assert found["comparison"]["difference"] == pytest.approx(2.25)
    assert found["unit"] == "windows"
    assert "stretches of 8 windows" in found["method"]


def test_stretches_are_no_longer_than_the_test_set():
    rows = [forecast_sums("a", "model", np.zeros((5, 2, 1)), np.ones((5, 2, 1)), scale=np.ones(1))]

    assert "stretches of 5 windows" in score_forecasts(rows, block_len=8)["method"]
