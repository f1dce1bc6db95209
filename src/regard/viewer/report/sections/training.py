"""Training curves: loss, learning rate, validation, speed, and the gradient of each layer."""

from typing import Any

import numpy as np
import numpy.typing as npt

from regard.records import Run
from regard.viewer.report.charts import Figure, Line, line_chart
from regard.viewer.report.layers import short_names
from regard.viewer.report.series import smooth, smooth_ratio

__all__ = ["layer_style", "training"]

_Floats = npt.NDArray[np.float64]
_LAYER_COLOURS = 8
_NOT_METRICS = ("time", "level", "event", "step", "epoch", "loss")
_SQUARED = ("forecasting", "sequence regression")
"""Tasks that are trained on squared errors, the others on nats."""
_CALLED = {"macro_f1": "macro F1", "span_f1": "span F1", "bleu": "BLEU", "chrf": "chrF"}


def training(run: Run) -> dict[str, Any]:
    """Return ``figures``, or ``missing``."""
    steps = list(run.events("step"))
    if not steps:
        return {"missing": "No training step was recorded."}
    figures = [_loss(run, steps), *_validation(run, steps), _rate(steps), _speed(steps), *_gradients(run, steps)]
    return {"figures": [figure for figure in figures if figure is not None], "absent": _absent(run)}


def layer_style(index: int, num_layers: int) -> str:
    """Return the CSS class of a layer's colour: eight shades from the lowest layer to the highest."""
    return f"l{round(index / max(num_layers - 1, 1) * (_LAYER_COLOURS - 1))}"


def _curve(events: list[dict[str, Any]], name: str) -> tuple[_Floats, _Floats] | None:
    pairs = [(event["step"], event[name]) for event in events if name in event]
    if not pairs:
        return None
    values = [np.nan if value is None else float(value) for _, value in pairs]
    return np.array([step for step, _ in pairs], dtype=np.float64), np.array(values)


def _loss(run: Run, steps: list[dict[str, Any]]) -> Figure | None:
    curve = _curve(steps, "loss")
    if curve is None:
        return None
    x, y = curve
    window = max(5, len(x) // 40)
    lines = [
        Line(name="training, each step", x=x, y=y, style="raw"),
        Line(name=f"training, smoothed over {window} steps", x=x, y=smooth(y, window), style="s1"),
    ]
    validated = _curve(list(run.events("validation")), "loss")
    if validated is not None:
        lines.append(Line(name="validation", x=validated[0], y=validated[1], style="s2", points=True))
    return line_chart(lines, title="Loss", y_label="MSE" if run.info.task in _SQUARED else "nats")


def _validation(run: Run, steps: list[dict[str, Any]]) -> list[Figure]:
    """Return a chart of the shares between 0 and 1, and one for each other metric."""
    events = list(run.events("validation"))
    fields = dict.fromkeys(name for event in events for name in event if name not in _NOT_METRICS)
    curves = {name: curve for name in fields if (curve := _curve(events, name)) is not None}
    shares = {name: curve for name, curve in curves.items() if np.nanmax(np.abs(curve[1]), initial=0.0) <= 1}
    groups = [shares, *({name: curve} for name, curve in curves.items() if name not in shares)]
    span = (steps[0]["step"], steps[-1]["step"])
    figures = []
    for group in filter(None, groups):
        lines = [
            Line(name=_called(name), x=x, y=y, style=f"s{number + 1}", points=True)
            for number, (name, (x, y)) in enumerate(group.items())
        ]
        title = "Validation" if len(group) > 1 else f"Validation: {_called(next(iter(group)))}"
        figures.append(line_chart(lines, title=title, x_range=span))
    return figures


def _called(name: str) -> str:
    return _CALLED.get(name, name.replace("_", " "))


def _rate(steps: list[dict[str, Any]]) -> Figure | None:
    curve = _curve(steps, "lr")
    return (
        None
        if curve is None
        else line_chart([Line(name="learning rate", x=curve[0], y=curve[1])], title="Learning rate")
    )


def _speed(steps: list[dict[str, Any]]) -> Figure | None:
    curve = _curve(steps, "tokens_per_s")
    if curve is None:
        return None
    x, y = curve
    lines = [Line(name="each step", x=x, y=y, style="raw"), Line(name="smoothed", x=x, y=smooth(y, 20), style="s1")]
    return line_chart(lines, title="Speed", y_label="tokens/s", note="Real tokens; padding does not count.")


def _gradients(run: Run, steps: list[dict[str, Any]]) -> list[Figure]:
    figures = []
    events = list(run.events("gradients"))
    if events and events[0]["layers"]:
        figures.append(_per_layer(events, "all", "Gradient norm of each layer", "before clipping"))
        figures.append(_score_share(events))
    curve = _curve(steps, "grad_norm")
    if curve is not None:
        x, y = curve
        smoothed = Line(name="smoothed", x=x, y=smooth_ratio(y, 20), style="s1")
        lines = [Line(name="each step", x=x, y=y, style="raw"), smoothed]
        figures.append(line_chart(lines, title="Gradient norm of the whole model", y_label="before clipping", log=True))
    return figures


def _per_layer(events: list[dict[str, Any]], field: str, title: str, y_label: str) -> Figure:
    x, values = _table(events, field)
    return _layer_lines(events, x, values, title=title, y_label=y_label)


def _score_share(events: list[dict[str, Any]]) -> Figure:
    x, scores = _table(events, "qk")
    _, outputs = _table(events, "vo")
    ratio = np.divide(scores, outputs, out=np.full_like(scores, np.nan), where=outputs > 0)
    title = "Gradient of queries and keys over that of values and output"
    return _layer_lines(events, x, ratio, title=title, y_label="ratio")


def _layer_lines(events: list[dict[str, Any]], x: _Floats, values: _Floats, *, title: str, y_label: str) -> Figure:
    names = [entry["layer"] for entry in events[0]["layers"]]
    short = short_names(names)
    window = max(1, len(x) // 12)
    lines = [
        Line(name=short[name], x=x, y=smooth_ratio(values[:, index], window), style=layer_style(index, len(names)))
        for index, name in enumerate(names)
    ]
    note = f"Each point is a geometric mean over {window} neighbouring looks." if window > 1 else ""
    return line_chart(lines, title=title, y_label=y_label, log=True, note=note)


def _table(events: list[dict[str, Any]], field: str) -> tuple[_Floats, _Floats]:
    """Return the steps and the (events, layers) norms of the events that name the layers of the first."""
    whole = [event for event in events if len(event["layers"]) == len(events[0]["layers"])]
    x = np.array([event["step"] for event in whole], dtype=np.float64)
    rows = [[entry.get(field) for entry in event["layers"]] for event in whole]
    return x, np.array(rows, dtype=np.float64)


def _absent(run: Run) -> list[str]:
    told = {
        "validation": "No validation was recorded: the run stopped before the end of its first epoch.",
        "gradients": "Gradient norms per layer were not recorded.",
    }
    return [sentence for name, sentence in told.items() if next(iter(run.events(name)), None) is None]
