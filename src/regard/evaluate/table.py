"""One table of models for any task: metrics that follow from sums over rows, each with its bootstrap interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from regard._errors import ArgumentError, DataError
from regard.evaluate.bootstrap import NUM_RESAMPLES, percentile_interval, resample_counts
from regard.records import ModelScore

__all__ = ["Metric", "RowSums", "mean", "score_models"]

SCHEMA_VERSION = 1
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure that follows from sums over the rows of a split.

    Attributes:
        name: its key in ``metrics.json``.
        title: what a person reads, such as ``"Perplexity"``.
        columns: the columns of ``RowSums`` that it is made of.
        of: from their sums, (columns,) or (columns, resamples), to the value or the values; NaN where undefined.
        lower_is_better: as for a loss.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    of: Callable[[_Floats], Any]
    lower_is_better: bool = False


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """What one model's answers to the rows add up from; models are compared row by row.

    Attributes:
        name: what a person reads in the table of models.
        kind: ``model`` or ``baseline``.
        columns: column -> one number per row, such as the number of right answers, or of tokens.
        details: chosen hyperparameters, seconds, parameters; plain values that fit into JSON.
    """

    name: str
    kind: str
    columns: Mapping[str, npt.ArrayLike]
    details: Mapping[str, Any] = field(default_factory=dict)


def mean(total: str, count: str) -> tuple[tuple[str, ...], Callable[[_Floats], Any]]:
    """Return ``columns`` and ``of`` of a mean: the sum of ``total`` over that of ``count``, NaN where it is 0."""

    def of(sums: _Floats) -> Any:
        return np.divide(sums[0], sums[1], out=np.full_like(sums[0], np.nan), where=sums[1] > 0)

    return (total, count), of


def score_models(
    task: str,
    metrics: Sequence[Metric],
    models: Sequence[RowSums],
    *,
    unit: str,
    split: str = "test",
    resamples: Iterable[Float[np.ndarray, "rows _resamples"]] | None = None,
    method: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    All models see the same resamples, so the comparison of the first model with the best baseline in the first metric
    is paired.

    Args:
        task: what the models do, such as ``"translation"``.
        metrics: the first one decides the comparison.
        models: the trained model first, then baselines.
        unit: what a row is, in the plural, such as ``"sentences"``.
        split: name of the split that the rows are from.
        resamples: blocks of counts, how often each row was drawn; None for the plain bootstrap over rows.
        method: how ``resamples`` were made, for a person; None for the plain bootstrap.
        seed: of the plain bootstrap.

    Returns:
        Plain values: the models' metrics with 95 % intervals, and the paired difference from the best baseline,
        positive where the first model is the better one.

    Raises:
        ArgumentError: there is no model or metric, or names repeat.
        DataError: the rows of the models do not fit each other, or a number is not finite.
    """
    num_rows = _check(metrics, models)
    tables = [np.stack([_column(model, name, num_rows) for name in _names(metrics)]) for model in models]
    points = [_values(metrics, table.sum(-1)) for table in tables]
    if resamples is None:
        resamples = resample_counts(num_rows, seed=seed)
        method = f"95 % percentile bootstrap over {unit}, {NUM_RESAMPLES} resamples, seed {seed}"
    blocks = [[_values(metrics, table @ counts) for table in tables] for counts in resamples]
    resampled = [
        {metric.name: np.concatenate([block[i][metric.name] for block in blocks]) for metric in metrics}
        for i in range(len(models))
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "split": split,
        "unit": unit,
        "num_rows": num_rows,
        "models": [
            _score(model, point, samples).model_dump(mode="json")
            for model, point, samples in zip(models, points, resampled, strict=True)
        ],
        "metric_order": [metric.name for metric in metrics],
        "titles": {metric.name: metric.title for metric in metrics},
        "lower_is_better": [metric.name for metric in metrics if metric.lower_is_better],
        "comparison": _comparison(metrics[0], models, points, resampled),
        "method": method,
    }


def _check(metrics: Sequence[Metric], models: Sequence[RowSums]) -> int:
    if not metrics or not models:
        raise ArgumentError(f"A table needs a metric and a model, got {len(metrics)} and {len(models)}.")
    for what, names in (("Metric", [one.name for one in metrics]), ("Model", [one.name for one in models])):
        if len(set(names)) != len(names):
            raise ArgumentError(f"{what} names must differ from one another, got {names}.")
    sizes = {model.name: len(np.asarray(next(iter(model.columns.values())))) for model in models}
    if len(set(sizes.values())) > 1 or not min(sizes.values()):
        raise DataError(f"Each model must answer the same rows, one or more, got {sizes}.")
    return sizes[models[0].name]


def _names(metrics: Sequence[Metric]) -> list[str]:
    return list(dict.fromkeys(name for metric in metrics for name in metric.columns))


def _column(model: RowSums, name: str, num_rows: int) -> _Floats:
    if name not in model.columns:
        raise DataError(f"{model.name!r} must have a column {name!r} for the metrics, got {list(model.columns)}.")
    values = np.asarray(model.columns[name], dtype=np.float64)
    if values.shape != (num_rows,) or not np.isfinite(values).all():
        raise DataError(
            f"Column {name!r} of {model.name!r} must hold {num_rows} finite numbers, got shape {values.shape} with "
            f"{int((~np.isfinite(values)).sum())} that are not finite."
        )
    return values


def _values(metrics: Sequence[Metric], sums: _Floats) -> dict[str, Any]:
    names = _names(metrics)
    return {metric.name: metric.of(sums[[names.index(name) for name in metric.columns]]) for metric in metrics}


def _score(model: RowSums, point: Mapping[str, Any], resampled: Mapping[str, Any]) -> ModelScore:
    metrics = {name: percentile_interval(float(value), resampled[name], name=name) for name, value in point.items()}
    return ModelScore(name=model.name, kind=model.kind, metrics=metrics, details=dict(model.details))


def _comparison(
    metric: Metric,
    models: Sequence[RowSums],
    points: Sequence[Mapping[str, Any]],
    resampled: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    rivals = [i for i, model in enumerate(models) if i and model.kind == "baseline"]
    if not rivals:
        return None
    sign = -1.0 if metric.lower_is_better else 1.0
    best = max(rivals, key=lambda i: sign * float(points[i][metric.name]))
    difference = sign * float(points[0][metric.name] - points[best][metric.name])
    samples = sign * (resampled[0][metric.name] - resampled[best][metric.name])
    interval = percentile_interval(difference, samples, name=f"difference in {metric.name}")
    return {
        "against": models[best].name,
        "metric": metric.name,
        "difference": difference,
        "low": interval.low,
        "high": interval.high,
    }
