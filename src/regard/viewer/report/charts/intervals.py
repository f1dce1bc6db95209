"""Dots with whiskers: models side by side on one metric, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from regard.viewer.report.charts.axis import Scale, nice_ticks
from regard.viewer.report.charts.svg import Raw, drawing, element
from regard.viewer.report.numbers import Number, number

__all__ = ["Whisker", "interval_plot"]

_WIDTH, _ROW, _LEFT = 300.0, 22.0, 18.0


@dataclass(frozen=True, kw_only=True)
class Whisker:
    """One model: its value and the ends of its interval."""

    name: str
    value: Number
    low: Number | None
    high: Number | None
    style: str


def interval_plot(whiskers: Sequence[Whisker], *, title: str) -> Raw:
    """Draw one row per model on a common axis that holds all intervals."""
    ends = [end for one in whiskers for end in (one.low, one.high, one.value) if end is not None]
    low, high = min(ends), max(ends)
    room = 0.08 * (high - low) or 0.01
    scale = Scale(low=low - room, high=high + room, start=_LEFT, end=_WIDTH - _LEFT)
    base = len(whiskers) * _ROW + 4
    drawn: list[Raw] = []
    for value in nice_ticks(scale.low, scale.high, 4):
        x = scale(value)
        drawn.append(element("line", x1=x, x2=x, y1=2, y2=base, class_="grid"))
        drawn.append(element("text", number(value), x=x, y=base + 14, class_="tick mid"))
    for row, one in enumerate(whiskers):
        drawn.append(_whisker(one, scale, row * _ROW + _ROW / 2 + 2))
    described = "; ".join(f"{one.name} {number(one.value)}" for one in whiskers)
    return drawing(*drawn, width=_WIDTH, height=base + 20, title=title, description=described, style="whiskers")


def _whisker(one: Whisker, scale: Scale, y: Number) -> Raw:
    told = f"{one.name}: {number(one.value, 4)}"
    parts = []
    if one.low is not None and one.high is not None:
        told += f", {number(one.low, 4)} to {number(one.high, 4)}"
        parts.append(element("line", x1=scale(one.low), x2=scale(one.high), y1=y, y2=y, class_=f"whisker {one.style}"))
    parts.append(element("circle", cx=scale(one.value), cy=y, r=5, class_=f"dot {one.style}"))
    return element("g", element("title", told), *parts)
