"""Judge forecasts: errors on standardised values and against a naive forecast, with intervals that know of time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from regard._errors import ArgumentError, DataError
from regard.evaluate.block_bootstrap import block_counts
from regard.evaluate.bootstrap import NUM_RESAMPLES
from regard.evaluate.table import Metric, RowSums, mean, score_models

__all__ = ["FORECAST_METRICS", "forecast_sums", "naive_scale", "score_forecasts"]


def _metric(name: str, title: str, total: str) -> Metric:
    columns, of = mean(total, "count")
    return Metric(name=name, title=title, columns=columns, of=of, lower_is_better=True)


FORECAST_METRICS = (
    _metric("mse", "MSE", "squared_error"),
    _metric("mae", "MAE", "absolute_error"),
    _metric("mase", "MASE", "scaled_error"),
)
"""Mean squared and absolute error of all channels and steps, and the absolute error in units of ``naive_scale``."""


def naive_scale(train: Float[np.ndarray, "times channels"], *, season: int) -> Float[np.ndarray, " channels"]:
    """Return how far off, on the mean, the value one season earlier is, over the training rows.

    Raises:
        ArgumentError: a season below 1 or as long as the rows.
        DataError: a channel repeats itself exactly, so that no error can be measured in its units.

    References:
        Hyndman and Koehler, Another look at measures of forecast accuracy (2006), equation 5.
    """
    if not 1 <= season < len(train):
        raise ArgumentError(f"season must lie between 1 and the {len(train)} training rows, got {season}.")
    scale: Float[np.ndarray, " channels"] = np.abs(train[season:] - train[:-season]).mean(0)
    if not scale.all():
        raise DataError(
            f"Channel {int(np.argmin(scale))} repeats itself exactly every {season} rows, so MASE is undefined; "
            "leave it out or choose another season."
        )
    return scale


def forecast_sums(
    name: str,
    kind: str,
    forecast: Float[np.ndarray, "windows horizon channels"],
    truth: Float[np.ndarray, "windows horizon channels"],
    *,
    scale: Float[np.ndarray, " channels"],
    details: Mapping[str, Any] | None = None,
) -> RowSums:
    """Return what the errors of each window add up to.

    Args:
        name: what a person reads in the table of models.
        kind: ``model`` or ``baseline``.
        forecast: what was said.
        truth: what came.
        scale: of ``naive_scale``, from the same values.
        details: plain values that fit into JSON.
    """
    error = np.abs(forecast.astype(np.float64) - truth)
    windows = len(error)
    return RowSums(
        name=name,
        kind=kind,
        columns={
            "squared_error": np.square(error).sum((1, 2)),
            "absolute_error": error.sum((1, 2)),
            "scaled_error": (error / scale).sum((1, 2)),
            "count": np.full(windows, error[0].size),
        },
        details=details or {},
    )


def score_forecasts(models: Sequence[RowSums], *, block_len: int, seed: int = 0) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        models: of ``forecast_sums``, the trained one first.
        block_len: windows in a stretch of the bootstrap; twice the horizon holds all of the overlap of two windows.
        seed: of the bootstrap.
    """
    num_windows = len(np.asarray(models[0].columns["count"]))
    block_len = min(block_len, num_windows)
    return score_models(
        "forecasting",
        FORECAST_METRICS,
        models,
        unit="windows",
        resamples=block_counts(num_windows, block_len, seed=seed),
        method=(
            f"95 % percentile bootstrap over stretches of {block_len} windows, {NUM_RESAMPLES} resamples, seed {seed}; "
            "errors are of standardised values"
        ),
    )
