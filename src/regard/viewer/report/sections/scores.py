"""Metrics as the page and the terminal show them."""

import math
from typing import Any

from regard.records import Interval, ModelScore, Run
from regard.viewer.report.charts import Whisker

__all__ = [
    "best",
    "digits_of",
    "headlines",
    "interval_text",
    "is_lower_better",
    "models",
    "shown_metrics",
    "title",
    "whiskers",
]

_HEADLINES = ("accuracy", "macro_f1", "auc_roc", "span_f1")
_NUM_HEADLINES = 3


def models(run: Run) -> list[ModelScore]:
    """Return the rows of the table of models, the trained one first; empty if none were scored."""
    if not run.has("metrics"):
        return []
    return [ModelScore.model_validate(row) for row in run.read("metrics")["models"]]


def shown_metrics(metrics: dict[str, Any]) -> list[str]:
    """Return the metrics in the order of the file."""
    named = [name for model in metrics["models"] for name in model["metrics"]]
    return list(dict.fromkeys([*(name for name in metrics["metric_order"] if name in named), *named]))


def title(metrics: dict[str, Any], name: str) -> str:
    """Return what a person calls the metric ``name``."""
    return str(metrics.get("titles", {}).get(name, name.replace("_", " ").capitalize()))


def is_lower_better(metrics: dict[str, Any], name: str) -> bool:
    """Whether a small value of ``name`` is a good one, as of a loss."""
    return name in metrics.get("lower_is_better", ())


def headlines(metrics: dict[str, Any]) -> list[str]:
    """Return the few metrics that stand on the first screen."""
    shown = shown_metrics(metrics)
    return [name for name in _HEADLINES if name in shown] or shown[:_NUM_HEADLINES]


def interval_text(interval: Interval | None) -> tuple[str, str]:
    """Return the value and its interval as text; a dash and the reason where it is undefined."""
    if interval is None or interval.value is None:
        return "–", (interval.note or "undefined") if interval else "not computed"
    digits = digits_of(abs(interval.value))
    if interval.low is None or interval.high is None:
        return f"{interval.value:,.{digits}f}", interval.note or ""
    return f"{interval.value:,.{digits}f}", f"{interval.low:,.{digits}f} – {interval.high:,.{digits}f}"


def digits_of(size: float) -> int:
    """Return how many digits to show behind the point; below a hundredth, those that leave three that say something."""
    if size >= 10:
        return 2 if size < 100 else 1 if size < 1000 else 0
    return 3 if size >= 0.01 or size < 1e-9 else 2 - math.floor(math.log10(size))


def best(rows: list[ModelScore], metric: str, *, lower_is_better: bool) -> float | None:
    """Return the best value of ``metric`` among the models."""
    values = [found.value for row in rows if (found := row.metrics.get(metric)) and found.value is not None]
    if not values:
        return None
    return min(values) if lower_is_better else max(values)


def whiskers(rows: list[ModelScore], metric: str, *, lower_is_better: bool) -> list[Whisker]:
    """Return the models that have ``metric``, for an interval plot; a naive baseline far behind is left out."""
    found = [(index, row, row.metrics[metric]) for index, row in enumerate(rows) if metric in row.metrics]
    known = [(index, row, one, one.value) for index, row, one in found if one.value is not None]
    top = best(rows, metric, lower_is_better=lower_is_better) or 0.0
    return [
        Whisker(name=row.name, value=value, low=one.low, high=one.high, style=f"s{index + 1}")
        for index, row, one, value in known
        # An axis that reaches down to the majority class leaves no room to compare the others.
        if index == 0 or (value < 1.25 * top if lower_is_better else value > 0.8 * top)
    ]
