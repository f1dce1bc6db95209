"""Reliability diagram: when the model says 90 %, is it right in 90 %?"""

from collections.abc import Mapping, Sequence

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.svg import Figure, Key, Raw, drawing, element
from regard.viewer.report.numbers import Number, count, percent

__all__ = ["reliability_diagram"]

_WIDTH, _HEIGHT = 520.0, 372.0


def reliability_diagram(bins: Sequence[Mapping[str, Number | None]], *, note: str = "") -> Figure:
    """Draw the accuracy of each bin of confidence against the diagonal, and below it how many rows it holds.

    Args:
        bins: each with ``low``, ``high``, ``confidence``, ``accuracy`` (None where empty) and ``count``.
        note: a sentence below the diagram.
    """
    unit = Scale(low=0, high=1, start=46, end=_WIDTH - 14)
    frame = Frame(
        x=unit,
        y=Scale(low=0, high=1, start=270, end=22),
        x_label="",
        y_label="share that is right",
    )
    corners = {"x1": unit(0), "y1": frame.y(0), "x2": unit(1), "y2": frame.y(1)}
    drawn = [frame.draw(), element("line", **corners, class_="mark")]
    most = max((float(part["count"] or 0) for part in bins), default=1.0) or 1.0
    for part in bins:
        drawn += _bin(part, frame, most)
    drawn.append(element("text", "confidence of the answer", x=unit.end, y=_HEIGHT - 4, class_="axis end"))
    drawn.append(element("text", "rows", x=38, y=_HEIGHT - 30, class_="tick end"))
    full = [part for part in bins if part["accuracy"] is not None]
    described = "; ".join(
        f"confidence {percent(part['confidence'], 0)}: {percent(part['accuracy'], 0)} right of {count(part['count'])}"
        for part in full
    )
    svg = drawing(*drawn, width=_WIDTH, height=_HEIGHT, title="Reliability diagram", description=described)
    legend = [
        Key(name="right", style="s1"),
        Key(name="gap to the confidence", style="gap"),
        Key(name="perfect", style="mark"),
    ]
    return Figure(title="Reliability", svg=svg, legend=legend, note=note)


def _bin(part: Mapping[str, Number | None], frame: Frame, most: Number) -> list[Raw]:
    low, high, confidence, accuracy = (part[name] for name in ("low", "high", "confidence", "accuracy"))
    if low is None or high is None or confidence is None or accuracy is None:
        return []
    rows = float(part["count"] or 0)
    told = element("title", f"confidence {percent(confidence)}: {percent(accuracy)} right of {count(rows)} rows")
    x, width = frame.x(low) + 1.5, max(1.0, frame.x(high) - frame.x(low) - 3)
    upper, lower = frame.y(max(confidence, accuracy)), frame.y(min(confidence, accuracy))
    top = frame.y(accuracy)
    tall = 40 * (rows / most) ** 0.5
    base = _HEIGHT - 22
    return [
        element("rect", told, x=x, y=top, width=width, height=frame.y.start - top, class_="bar s1"),
        element("rect", told, x=x, y=upper, width=width, height=max(0.0, lower - upper), class_="bar gap"),
        element("rect", told, x=x, y=base - tall, width=width, height=tall, class_="bar quiet"),
    ]
