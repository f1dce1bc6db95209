"""Metrics as the page and the terminal show them."""

from typing import Any

from regard.records import Interval, ModelScore, Run
from regard.viewer.report.charts import Whisker

__all__ = ["METRIC_NAMES", "best", "interval_text", "models", "shown_metrics", "whiskers"]

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "auc_roc": "AUC-ROC",
    "calibration_error": "Calibration error",
}
_LOWER_IS_BETTER = {"calibration_error"}


def models(run: Run) -> list[ModelScore]:
    """Return the rows of the table of models, the trained one first; empty if none were scored."""
    if not run.has("metrics"):
        return []
    return [ModelScore.model_validate(row) for row in run.read("metrics")["models"]]


def shown_metrics(metrics: dict[str, Any]) -> list[str]:
    """Return the metrics in the order of the file."""
    named = [name for model in metrics["models"] for name in model["metrics"]]
    return list(dict.fromkeys([*(name for name in metrics["metric_order"] if name in named), *named]))


def interval_text(interval: Interval | None, digits: int = 3) -> tuple[str, str]:
    """Return the value and its interval as text; a dash and the reason where it is undefined."""
    if interval is None or interval.value is None:
        return "–", (interval.note or "undefined") if interval else "not computed"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.{digits}f}", interval.note or ""
    return f"{interval.value:.{digits}f}", f"{interval.low:.{digits}f} – {interval.high:.{digits}f}"


def best(rows: list[ModelScore], metric: str) -> float | None:
    """Return the best value of ``metric`` among the models."""
    values = [found.value for row in rows if (found := row.metrics.get(metric)) and found.value is not None]
    if not values:
        return None
    return min(values) if metric in _LOWER_IS_BETTER else max(values)


def whiskers(rows: list[ModelScore], metric: str) -> list[Whisker]:
    """Return the models that have ``metric``, for an interval plot; a majority class far below is left out."""
    found = [(index, row, row.metrics[metric]) for index, row in enumerate(rows) if metric in row.metrics]
    known = [(index, row, one, one.value) for index, row, one in found if one.value is not None]
    top = max((value for *_, value in known), default=0.0)
    return [
        Whisker(name=row.name, value=value, low=one.low, high=one.high, style=f"s{index + 1}")
        for index, row, one, value in known
        # An axis that reaches down to the majority class leaves no room to compare the others.
        if index == 0 or value > 0.8 * top
    ]
