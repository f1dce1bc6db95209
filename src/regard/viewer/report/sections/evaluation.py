"""What the model is worth: beside baselines, by class, and how honest its confidence is."""

from typing import Any

import numpy as np

from regard.records import ModelScore, Run
from regard.viewer.report.charts import MAX_CLASSES, confusion_matrix, reliability_diagram
from regard.viewer.report.numbers import count, duration, number, percent
from regard.viewer.report.sections.scores import best, interval_text, is_lower_better, models, shown_metrics, title

__all__ = ["evaluation"]

_SHARES = ("accuracy", "exact_match", "token_accuracy")
"""Metrics between 0 and 1 whose differences are told in percentage points."""


def evaluation(run: Run) -> dict[str, Any]:
    """Return the table of models, the classes, the mistakes and the figures of ``metrics.json``."""
    if not run.has("metrics"):
        return {"missing": "metrics.json was not written: the model of this run was not evaluated."}
    metrics = run.read("metrics")
    rows = models(run)
    columns = shown_metrics(metrics)
    tops = {name: best(rows, name, lower_is_better=is_lower_better(metrics, name)) for name in columns}
    notes: list[str] = []
    return {
        "columns": [title(metrics, name) for name in columns],
        "rows": [_row(row, index, tops, notes) for index, row in enumerate(rows)],
        "notes": notes,
        "small": [title(metrics, name) for name in columns if is_lower_better(metrics, name)],
        "comparison": _comparison(metrics, rows),
        "classes": _classes(metrics, rows),
        "method": metrics["method"],
        "split": metrics["split"],
        "unit": metrics.get("unit", "documents"),
        "num_rows": count(metrics["num_rows"]),
    }


def _classes(metrics: dict[str, Any], rows: list[ModelScore]) -> dict[str, Any] | None:
    """Return what is known of each class; None where there are none."""
    if "per_class" not in metrics:
        return None
    return {
        "number": len(metrics["labels"]),
        "name": metrics.get("class_name", "class"),
        "names": f"{metrics['class_name']}s" if "class_name" in metrics else "classes",
        "unit": metrics.get("class_unit", metrics.get("unit", "documents")),
        "rows": metrics["per_class"],
        "spans": metrics.get("per_span"),
        "confusion": confusion_matrix(metrics["confusion"], metrics["labels"]) if _fits(metrics) else None,
        "mistakes": _mistakes(metrics["confusion"], metrics["labels"]),
        "reliability": _reliability(metrics, rows),
        "has_scores": "calibration" in metrics,
    }


def _row(row: ModelScore, index: int, tops: dict[str, float | None], notes: list[str]) -> dict[str, Any]:
    cells = []
    for name, top in tops.items():
        interval = row.metrics.get(name)
        value, ends = interval_text(interval)
        known = interval is not None and interval.value is not None
        note = interval.note if interval is not None and known else None
        if note and note not in notes:
            notes.append(note)
        cells.append(
            {
                "value": value,
                "ends": ends,
                "has_ends": interval is not None and interval.low is not None,
                "best": known and interval is not None and interval.value == top,
                "note": notes.index(note) + 1 if note else None,
            }
        )
    return {"name": row.name, "kind": row.kind, "style": f"s{index + 1}", "cells": cells, "details": _details(row)}


def _details(row: ModelScore) -> str:
    return " · ".join(f"{_told(name)}: {_value(name, value)}" for name, value in row.details.items())


def _told(name: str) -> str:
    return "time" if name == "seconds" else name.removeprefix("num_").replace("_", " ")


def _value(name: str, value: Any) -> str:
    if name == "seconds":
        return duration(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return number(value, 4) if isinstance(value, float) else str(value)


def _comparison(metrics: dict[str, Any], rows: list[ModelScore]) -> dict[str, str] | None:
    comparison = metrics.get("comparison")
    if comparison is None or not rows:
        return None
    low, high, difference = comparison["low"], comparison["high"], comparison["difference"]
    if low is None or high is None:
        meaning, tone = "the interval is undefined", "fair"
    elif low > 0:
        meaning, tone = "the model is better, beyond chance", "good"
    elif high < 0:
        meaning, tone = "the baseline is better, beyond chance", "bad"
    else:
        meaning, tone = "chance alone could make this difference", "fair"
    known = low is not None and high is not None
    told = _points if comparison["metric"] in _SHARES else _signed
    return {
        "against": comparison["against"],
        "model": rows[0].name,
        "metric": title(metrics, comparison["metric"]),
        "unit": "points of " if comparison["metric"] in _SHARES else "",
        "better": "lower" if is_lower_better(metrics, comparison["metric"]) else "",
        "difference": told(difference),
        "interval": f"{told(low)} to {told(high)}" if known else "undefined",
        "meaning": meaning,
        "tone": tone,
    }


def _points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", "−")


def _signed(difference: float) -> str:
    return f"{difference:+.4g}".replace("-", "−")


def _fits(metrics: dict[str, Any]) -> bool:
    return len(metrics["labels"]) <= MAX_CLASSES


def _mistakes(confusion: list[list[int]], labels: list[str]) -> list[dict[str, str]]:
    table = np.array(confusion)
    off = table - np.diag(np.diag(table))
    order = np.argsort(-off, axis=None, kind="stable")[:6]
    places = [np.unravel_index(int(index), off.shape) for index in order]
    return [
        {
            "true": labels[int(a)],
            "predicted": labels[int(b)],
            "count": count(int(off[a, b])),
            "share": percent(float(off[a, b] / max(1, table[a].sum()))),
        }
        for a, b in places
        if off[a, b] > 0
    ]


def _reliability(metrics: dict[str, Any], rows: list[ModelScore]) -> Any:
    if not metrics.get("calibration"):
        return None
    interval = rows[0].metrics.get("calibration_error")
    value, ends = interval_text(interval)
    told = f"Expected calibration error {value} ({ends}); 0 is perfect." if interval is not None else ""
    return reliability_diagram(metrics["calibration"]["bins"], note=told)
