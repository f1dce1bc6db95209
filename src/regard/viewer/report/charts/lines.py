"""Line charts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.svg import Figure, Key, Raw, drawing, element, short
from regard.viewer.report.numbers import Number, number
from regard.viewer.report.series import extremes

__all__ = ["Line", "line_chart", "path"]

_WIDTH, _HEIGHT = 520.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 14.0, 22.0, 38.0
_BINS = 220
_MAX_GAPS = 50

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; ``style`` is a CSS class, ``points`` also marks each value with a dot."""

    name: str
    x: _Floats
    y: _Floats
    style: str = "s1"
    points: bool = False


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str = "step",
    y_label: str = "",
    log: bool = False,
    x_range: tuple[Number, Number] | None = None,
    note: str = "",
) -> Figure:
    """Draw curves over a common axis; a value that is no number is a gap with a mark on the base line.

    Args:
        lines: the curves, drawn in this order.
        title: what the chart shows.
        x_label: name and unit of the horizontal axis.
        y_label: name and unit of the vertical axis.
        log: whether the vertical axis is logarithmic; values at or below 0 are left out.
        x_range: ends of the horizontal axis; by default those of the curves.
        note: a sentence below the chart.
    """
    lines = [_positive(line) if log else line for line in lines]
    frame = _frame(lines, x_label, y_label, log, x_range)
    drawn = [frame.draw()]
    for line in lines:
        x, y = extremes(line.x, line.y, _BINS)
        drawn.append(element("path", element("title", line.name), d=path(x, y, frame), class_=f"line {line.style}"))
        drawn += _dots(x, y, line.style, frame) if line.points else []
        drawn += _gaps(line, frame) if not log else []
    legend = [Key(name=line.name, style=line.style) for line in lines] if len(lines) > 1 else []
    svg = drawing(*drawn, width=_WIDTH, height=_HEIGHT, title=title, description=_described(lines))
    return Figure(title=title, svg=svg, legend=legend, note=note)


def path(x: _Floats, y: _Floats, frame: Frame) -> str:
    """Return the path of a curve; NaN interrupts it."""
    parts, pen_is_down = [], False
    for a, b in zip(x, y, strict=True):
        if not np.isfinite(b):
            pen_is_down = False
            continue
        parts.append(f"{'L' if pen_is_down else 'M'}{short(frame.x(a))} {short(frame.y(b))}")
        pen_is_down = True
    return "".join(parts)


def _positive(line: Line) -> Line:
    keep = np.isfinite(line.y) & (line.y > 0)
    return Line(name=line.name, x=line.x[keep], y=line.y[keep], style=line.style, points=line.points)


def _frame(
    lines: Sequence[Line], x_label: str, y_label: str, log: bool, x_range: tuple[Number, Number] | None
) -> Frame:
    x = np.concatenate([line.x for line in lines])
    y = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    x_low, x_high = x_range or ((float(x.min()), float(x.max())) if len(x) else (0.0, 1.0))
    low, high = (float(y.min()), float(y.max())) if len(y) else (0.1, 1.0)
    if not log:
        low, high = _with_room(low, high)
    if high <= low:
        low, high = (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
    return Frame(
        x=Scale(low=x_low, high=x_high, start=_LEFT, end=_WIDTH - _RIGHT),
        y=Scale(low=low, high=high, start=_HEIGHT - _BOTTOM, end=_TOP, log=log),
        x_label=x_label,
        y_label=y_label,
    )


def _with_room(low: Number, high: Number) -> tuple[Number, Number]:
    """Start at 0 where that costs less than half of the height, and leave a little room otherwise."""
    if 0 <= low <= 0.5 * high:
        return 0.0, high * 1.02
    room = 0.06 * (high - low)
    return low - room, high + room


def _dots(x: _Floats, y: _Floats, style: str, frame: Frame) -> list[Raw]:
    drawn = []
    for a, b in zip(x, y, strict=True):
        if np.isfinite(b):
            told = element("title", f"{number(b)} at {number(a, 6)}")
            drawn.append(element("circle", told, cx=frame.x(a), cy=frame.y(b), r=3.5, class_=f"dot {style}"))
    return drawn


def _gaps(line: Line, frame: Frame) -> list[Raw]:
    drawn = []
    for x in line.x[~np.isfinite(line.y)][:_MAX_GAPS]:
        told = element("title", f"{line.name} is not a number at {number(float(x), 6)}")
        drawn.append(element("path", told, d=f"M{short(frame.x(x))} {short(frame.y.start)}v-10", class_="line bad"))
    return drawn


def _described(lines: Sequence[Line]) -> str:
    told = []
    for line in lines:
        values = line.y[np.isfinite(line.y)]
        if len(values):
            told.append(
                f"{line.name} goes from {number(values[0])} to {number(values[-1])}, "
                f"least {number(values.min())}, largest {number(values.max())}"
            )
    return "; ".join(told[:8])
