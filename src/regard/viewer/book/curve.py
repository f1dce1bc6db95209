"""A score along the book: a dot for each part of it, with its interval, and the score of the whole as a line."""

from collections.abc import Mapping, Sequence
from typing import Any

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.svg import Figure, Raw, drawing, element
from regard.viewer.report.numbers import number, percent

__all__ = ["position_chart"]

_WIDTH, _HEIGHT = 760.0, 236.0


def position_chart(parts: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], *, metric: str, title: str) -> Figure:
    """Draw a metric over the share of the book that lies behind.

    Args:
        parts: ``by_position`` of the scores of a book.
        whole: ``whole`` of them.
        metric: which of the scores.
        title: what the chart shows.
    """
    ends = [end for part in parts for end in (part[metric]["low"], part[metric]["high"]) if end is not None]
    values = [part[metric]["value"] for part in parts if part[metric]["value"] is not None]
    low, high = min([*ends, *values], default=0.0), max([*ends, *values], default=1.0)
    room = 0.1 * (high - low) or 1.0
    frame = Frame(
        x=Scale(low=0, high=100, start=46, end=_WIDTH - 14),
        y=Scale(low=max(0.0, low - room), high=high + room, start=_HEIGHT - 38, end=22),
        x_label="% of the book",
        y_label=title,
        num_x_ticks=10,
    )
    drawn = [frame.draw()]
    mean = whole[metric]["value"]
    if mean is not None:
        told = element("title", f"the whole: {number(mean, 4)}")
        drawn.append(
            element("line", told, x1=frame.x.start, x2=frame.x.end, y1=frame.y(mean), y2=frame.y(mean), class_="mark")
        )
    total = parts[-1]["last"] + 1
    drawn += [_dot(part, part[metric], 50 * (part["first"] + part["last"] + 1) / total, frame) for part in parts]
    described = "; ".join(number(value, 3) for value in values)
    svg = drawing(*drawn, width=_WIDTH, height=_HEIGHT, title=title, description=described)
    return Figure(title=f"{title} along the book", svg=svg, note="Dashed: the whole. Bars: 95 % intervals.", wide=True)


def _dot(part: Mapping[str, Any], found: Mapping[str, Any], x: float, frame: Frame) -> Raw:
    rows = f"rows {part['first'] + 1} to {part['last'] + 1}"
    told = f"{rows}, {percent(x / 100, 0)} into the book: {number(found['value'], 4)}"
    drawn = []
    if found["low"] is not None and found["high"] is not None:
        told += f", {number(found['low'], 4)} to {number(found['high'], 4)}"
        at = frame.x(x)
        drawn.append(
            element("line", x1=at, x2=at, y1=frame.y(found["low"]), y2=frame.y(found["high"]), class_="whisker s1")
        )
    if found["value"] is not None:
        drawn.append(element("circle", cx=frame.x(x), cy=frame.y(found["value"]), r=5, class_="dot s1"))
    return element("g", element("title", told), *drawn)
