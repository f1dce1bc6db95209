"""The first screen: verdict, the numbers that matter, and what ran on what."""

from typing import Any

import numpy as np

from regard.records import Run
from regard.viewer.report.charts import interval_plot
from regard.viewer.report.numbers import count, duration, percent
from regard.viewer.report.outcome import outcome
from regard.viewer.report.sections.scores import (
    digits_of,
    headlines,
    interval_text,
    is_lower_better,
    models,
    title,
    whiskers,
)

__all__ = ["facts", "headline"]


def headline(run: Run) -> dict[str, Any]:
    """Return ``outcome``, ``metrics`` (big numbers with their interval plots), ``against`` and ``facts``."""
    return {
        "run": run.info,
        "created": run.info.created[:16].replace("T", " ") + " UTC",
        "outcome": outcome(run),
        "metrics": _metrics(run),
        "split": _split(run),
        "facts": facts(run),
    }


def facts(run: Run) -> list[tuple[str, str, str]]:
    """Return name, value and remark of each fact that was recorded."""
    found = [*_subject(run), *_effort(run), *_machine(run)]
    return [(name, value, remark) for name, value, remark in found if value]


def _metrics(run: Run) -> list[dict[str, Any]]:
    rows = models(run)
    if not rows:
        return []
    metrics = run.read("metrics")
    shown = []
    for name in headlines(metrics):
        if (interval := rows[0].metrics.get(name)) is not None and interval.value is not None:
            value, ends = interval_text(interval)
            drawn = whiskers(rows, name, lower_is_better=is_lower_better(metrics, name))
            told = title(metrics, name)
            plot = interval_plot(drawn, title=told)
            texts = [f"{one.value:,.{_digits(abs(one.value))}f}" for one in drawn]
            keys = [
                {"name": one.name, "style": one.style, "value": text} for one, text in zip(drawn, texts, strict=True)
            ]
            shown.append({"title": told, "value": value, "interval": ends, "plot": plot, "keys": keys})
    return shown


def _split(run: Run) -> str:
    if not run.has("metrics"):
        return ""
    metrics = run.read("metrics")
    return f"{metrics['split']} set, {count(metrics['num_rows'])} {metrics.get('unit', 'documents')}"


def _subject(run: Run) -> list[tuple[str, str, str]]:
    found = []
    if run.has("audit"):
        audit = run.read("audit")
        rows = ", ".join(f"{count(split['num_rows'])} {name}" for name, split in audit["splits"].items())
        found.append(("Data", str(audit["source"]["name"]), rows))
    rows_of_models = models(run)
    if rows_of_models:
        model = rows_of_models[0]
        size = model.details.get("parameters")
        found.append(("Model", model.name, f"{count(size)} parameters" if size else ""))
    return found


def _effort(run: Run) -> list[tuple[str, str, str]]:
    steps = [event for event in run.events("step") if event.get("step") is not None]
    trained = next(iter(run.events("trained")), {})
    speeds = [event["tokens_per_s"] for event in steps if event.get("tokens_per_s")]
    epochs = {event["epoch"] for event in steps if "epoch" in event}
    found = [("Steps", count(steps[-1]["step"]) if steps else "", f"{len(epochs)} epochs" if len(epochs) > 1 else "")]
    wall = run.info.wall_s if run.info.wall_s is not None else trained.get("wall_s")
    cpu = f"{duration(run.info.cpu_s)} of processor time" if run.info.cpu_s is not None else ""
    found.append(("Time", duration(wall) if wall is not None else "", cpu))
    if speeds:
        found.append(("Speed", f"{count(float(np.median(speeds)))} tokens/s", "median of the training steps"))
    if trained.get("watch_s") and trained.get("wall_s"):
        share = trained["watch_s"] / trained["wall_s"]
        found.append(("Watching", percent(share), f"of training time, {duration(trained['watch_s'])}"))
    return found


def _machine(run: Run) -> list[tuple[str, str, str]]:
    device, kernels = run.info.device, run.info.kernels
    name = str(device.get("name", device.get("type", "")))
    found = [("Device", name, str(device.get("precision", "")))]
    if kernels:
        kernel, calls = max(kernels.items(), key=lambda item: item[1])
        others = f", and {len(kernels) - 1} more" if len(kernels) > 1 else ""
        found.append(
            (
                "Kernel",
                kernel.removeprefix("_scaled_dot_product_").strip("_").replace("_", " "),
                f"{count(calls)} calls{others}",
            )
        )
    return found


def _digits(size: float) -> int:
    """Return how many digits to show behind the point of figures that lie close together."""
    return max(3, digits_of(size)) if size < 1000 else 0
