"""Judge numbers that were said of rows: errors in their own unit, and how much of the variance they account for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from regard.evaluate.table import Metric, RowSums, mean, score_models

__all__ = ["REGRESSION_METRICS", "number_sums", "score_numbers"]

_Sums = Float[np.ndarray, "columns *resamples"]


def _error(name: str, title: str, total: str) -> Metric:
    columns, of = mean(total, "count")
    return Metric(name=name, title=title, columns=columns, of=of, lower_is_better=True)


def _rmse(sums: _Sums) -> Any:
    return np.sqrt(sums[0] / sums[1])


def _r2(sums: _Sums) -> Any:
    """Return 1 less the squared error over that of the rows' own mean; NaN where all rows are one number."""
    error, count, total, square = sums
    spread = square - total**2 / count
    known = spread > np.finfo(np.float64).eps * np.abs(square)
    return 1 - np.divide(error, spread, out=np.full_like(error, np.nan), where=known)


REGRESSION_METRICS = (
    _error("mse", "MSE", "squared_error"),
    Metric(name="rmse", title="RMSE", columns=("squared_error", "count"), of=_rmse, lower_is_better=True),
    _error("mae", "MAE", "absolute_error"),
    Metric(name="r2", title="R²", columns=("squared_error", "count", "truth", "squared_truth"), of=_r2),
)
"""Mean squared error, its root, mean absolute error, and the share of variance that is accounted for."""


def number_sums(
    name: str,
    kind: str,
    said: Float[np.ndarray, " rows"],
    truth: Float[np.ndarray, " rows"],
    *,
    details: Mapping[str, Any] | None = None,
) -> RowSums:
    """Return what the errors of each row add up from.

    Args:
        name: what a person reads in the table of models.
        kind: ``model`` or ``baseline``.
        said: the answers.
        truth: what was right.
        details: plain values that fit into JSON.
    """
    error = np.abs(said.astype(np.float64) - truth)
    # Less their mean, which R² does not change by, so that large numbers do not cancel.
    centred = truth - truth.mean()
    columns = {
        "squared_error": np.square(error),
        "absolute_error": error,
        "truth": centred,
        "squared_truth": np.square(centred),
        "count": np.ones(len(error)),
    }
    return RowSums(name=name, kind=kind, columns=columns, details=details or {})


def score_numbers(task: str, models: Sequence[RowSums], *, unit: str, seed: int = 0) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        task: what the models do.
        models: of ``number_sums``, the trained one first.
        unit: what a row is, in the plural.
        seed: of the bootstrap.
    """
    return score_models(task, REGRESSION_METRICS, models, unit=unit, seed=seed)
