"""One small chart per layer with a thin line for each head, and sparklines for tables."""

import numpy as np
import numpy.typing as npt

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.lines import path
from regard.viewer.report.charts.svg import Raw, drawing, element
from regard.viewer.report.numbers import Number, number

__all__ = ["layer_panel", "sparkline"]

_Floats = npt.NDArray[np.float64]


def layer_panel(
    steps: _Floats, values: _Floats, *, title: str, y_range: tuple[Number, Number], strong: frozenset[int]
) -> Raw:
    """Draw (points, heads) values over ``steps``.

    Args:
        steps: (points,) steps.
        values: (points, heads) values; NaN is a gap.
        title: name of the layer.
        y_range: common range of all panels.
        strong: heads to draw in the accent colour, those that changed most.
    """
    width, height = 250.0, 142.0
    frame = Frame(
        x=Scale(low=float(steps[0]), high=float(steps[-1]), start=32, end=width - 6),
        y=Scale(low=y_range[0], high=y_range[1], start=height - 22, end=8),
        x_label="",
        num_x_ticks=3,
        num_y_ticks=2,
    )
    heads = sorted(range(values.shape[1]), key=lambda head: head in strong)
    drawn = [frame.draw()]
    for head in heads:
        column = values[:, head]
        known = column[np.isfinite(column)]
        told = f"head {head}: {number(known[0])} → {number(known[-1])}" if len(known) else f"head {head}"
        style = "thin strong" if head in strong else "thin"
        drawn.append(element("path", element("title", told), d=path(steps, column, frame), class_=style))
    return drawing(*drawn, width=width, height=height, title=f"{title}, {values.shape[1]} heads", style="panel")


def sparkline(values: _Floats, *, title: str) -> Raw:
    """Draw one curve the size of a word."""
    width, height = 76.0, 20.0
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    x = np.arange(len(values), dtype=np.float64)
    frame = Frame(
        x=Scale(low=0, high=max(len(values) - 1, 1), start=2, end=width - 2),
        y=Scale(low=low, high=high, start=height - 3, end=3),
        x_label="",
    )
    line = element("path", d=path(x, values, frame), class_="thin strong")
    return drawing(line, width=width, height=height, title=title, style="spark")
