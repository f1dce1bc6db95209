"""One table for all models: every metric with its interval, and what else ``metrics.json`` holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from regard._errors import ArgumentError, DataError
from regard.evaluate.bootstrap import NUM_RESAMPLES, percentile_interval, resample_counts
from regard.evaluate.calibration import calibration_error, reliability
from regard.evaluate.classification import accuracy, confusion_matrix, f1, macro, precision, recall, tally
from regard.evaluate.predictions import Predictions, checked_labels
from regard.evaluate.ranking import one_vs_rest_auc
from regard.records import ModelScore

__all__ = ["METRIC_ORDER", "SCHEMA_VERSION", "score_classifiers"]

SCHEMA_VERSION = 1
_TITLES = {
    "accuracy": "Accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "auc_roc": "AUC-ROC",
    "calibration_error": "Calibration error",
}
METRIC_ORDER = tuple(_TITLES)

_Values = dict[str, Float[np.ndarray, "..."]]
_Labels = Int[np.ndarray, " rows"]


def score_classifiers(
    labels: Sequence[str],
    true: npt.ArrayLike,
    models: Sequence[Predictions],
    *,
    split: str = "test",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    task: str = "text classification",
    unit: str = "documents",
) -> dict[str, Any]:
    """Score models on the same rows and return the content of ``metrics.json``.

    All models see the same bootstrap resamples, so the comparison of the first with the best baseline is paired.

    Args:
        labels: name of each class, in the order of the score columns.
        true: class of each row, 0 to ``len(labels)`` - 1.
        models: the trained model first, then baselines.
        split: name of the split that the rows are from.
        num_resamples: bootstrap resamples.
        seed: of the bootstrap.
        task: what the models do.
        unit: what a row is, in the plural.

    Returns:
        Plain values: every model's metrics with 95 % intervals in ``METRIC_ORDER``; per-class table, confusion matrix
        and reliability bins of the first (no bins unless its scores are probabilities); and the paired difference in
        accuracy between the first and the baseline with the highest accuracy, None without a baseline.

    Raises:
        ArgumentError: there is no model, or a model's rows, classes or name do not fit the others'.
        DataError: a label is out of range, class names repeat, or there are no rows.
    """
    classes = checked_labels(true, num_classes=len(labels), what="true classes")
    _check(labels, classes, models)
    points = [_metrics(model, classes) for model in models]
    blocks = [
        [_metrics(model, classes, counts) for model in models]
        for counts in resample_counts(len(classes), num_resamples=num_resamples, seed=seed)
    ]
    resampled = [
        {name: np.concatenate([block[i][name] for block in blocks]) for name in point} for i, point in enumerate(points)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "split": split,
        "unit": unit,
        "num_rows": len(classes),
        "labels": list(labels),
        "models": [
            _model_score(model, point, samples, labels, classes).model_dump(mode="json")
            for model, point, samples in zip(models, points, resampled, strict=True)
        ],
        "metric_order": list(METRIC_ORDER),
        "titles": _TITLES,
        "lower_is_better": ["calibration_error"],
        "per_class": _per_class(labels, classes, models[0]),
        "confusion": confusion_matrix(classes, models[0].predicted, num_classes=len(labels)).tolist(),
        "calibration": _calibration(classes, models[0]),
        "comparison": _comparison(models, points, resampled),
        "method": f"95 % percentile bootstrap over rows, {num_resamples} resamples, seed {seed}",
    }


def _check(labels: Sequence[str], true: _Labels, models: Sequence[Predictions]) -> None:
    if not models:
        raise ArgumentError("At least one model is needed to score, got none.")
    if len(set(labels)) != len(labels):
        raise DataError(f"Class names must differ from one another, got {list(labels)}.")
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise ArgumentError(f"Model names must differ from one another, got {names}.")
    for model in models:
        if model.num_rows != len(true):
            raise ArgumentError(
                f"{model.name!r} must answer each of the {len(true)} rows once, got {model.num_rows} answers."
            )
        if model.num_classes != len(labels):
            raise ArgumentError(
                f"{model.name!r} must score each of the {len(labels)} classes, "
                f"got {model.num_classes} columns of scores."
            )


def _metrics(model: Predictions, true: _Labels, counts: Float[np.ndarray, "rows resamples"] | None = None) -> _Values:
    """Return each defined metric on the rows themselves, or on each resample; NaN where it is undefined."""
    found = tally(true, model.predicted, num_classes=model.num_classes, counts=counts)
    values = {
        "accuracy": accuracy(found),
        "macro_precision": macro(precision(found)),
        "macro_recall": macro(recall(found)),
        "macro_f1": macro(f1(found)),
        "auc_roc": macro(one_vs_rest_auc(true, model.scores, counts=counts)),
    }
    if model.are_probabilities:
        values["calibration_error"] = calibration_error(_confidence(model), true == model.predicted, counts=counts)
    return values


def _confidence(model: Predictions) -> Float[np.ndarray, " rows"]:
    return np.asarray(model.scores[np.arange(model.num_rows), model.predicted]).clip(0, 1)


def _model_score(
    model: Predictions, point: _Values, resampled: _Values, labels: Sequence[str], true: _Labels
) -> ModelScore:
    why = {
        "auc_roc": _why_no_auc(labels, true),
        "calibration_error": "the model's scores are not probabilities",
    }
    undefined = np.full(1, np.nan)
    metrics = {}
    for name in METRIC_ORDER:
        value, samples = float(point.get(name, np.nan)), resampled.get(name, undefined)
        interval = percentile_interval(value, samples, name=name, undefined=why.get(name))
        notes = [note for note in (_zeros(name, labels, true, model), interval.note) if note]
        metrics[name] = interval.model_copy(update={"note": "; ".join(notes) or None})
    return ModelScore(name=model.name, kind=model.kind, metrics=metrics, details=dict(model.details))


def _zeros(metric: str, labels: Sequence[str], true: _Labels, model: Predictions) -> str | None:
    """Say which classes enter a macro mean as 0 because their ratio is 0/0."""
    found = tally(true, model.predicted, num_classes=len(labels))
    rows = {
        "macro_precision": (found.predicted, "never predicted"),
        "macro_recall": (found.support, "without a row"),
        "macro_f1": (found.predicted + found.support, "without a row and never predicted"),
    }
    if metric not in rows:
        return None
    count, why = rows[metric]
    names = [repr(label) for label, rows_of_class in zip(labels, count, strict=True) if not rows_of_class]
    return f"{', '.join(names)}: {why}, counted as 0" if names else None


def _why_no_auc(labels: Sequence[str], true: _Labels) -> str:
    support = np.bincount(true, minlength=len(labels))
    absent = [repr(label) for label, count in zip(labels, support, strict=True) if not count]
    return f"undefined: no row of {', '.join(absent)}, so there are no pairs to rank"


def _per_class(labels: Sequence[str], true: _Labels, model: Predictions) -> list[dict[str, Any]]:
    found = tally(true, model.predicted, num_classes=len(labels))
    columns = zip(labels, precision(found), recall(found), f1(found), found.support, strict=True)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        for label, p, r, f, support in columns
    ]


def _calibration(true: _Labels, model: Predictions) -> dict[str, Any]:
    if not model.are_probabilities:
        return {"bins": []}
    bins = zip(*reliability(_confidence(model), true == model.predicted), strict=True)
    rows = [
        {
            "low": float(low),
            "high": float(high),
            "confidence": float(confidence) if count else None,
            "accuracy": float(share) if count else None,
            "count": int(count),
        }
        for low, high, confidence, share, count in bins
    ]
    return {"bins": rows}


def _comparison(
    models: Sequence[Predictions], points: Sequence[_Values], resampled: Sequence[_Values]
) -> dict[str, Any] | None:
    rivals = [i for i, model in enumerate(models) if i and model.kind == "baseline"]
    if not rivals:
        return None
    best = max(rivals, key=lambda i: float(points[i]["accuracy"]))
    difference = float(points[0]["accuracy"] - points[best]["accuracy"])
    interval = percentile_interval(
        difference, resampled[0]["accuracy"] - resampled[best]["accuracy"], name="difference in accuracy"
    )
    return {
        "against": models[best].name,
        "metric": "accuracy",
        "difference": difference,
        "low": interval.low,
        "high": interval.high,
    }
