"""Layer × head heat maps and the colour bar that explains them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.viewer.report.charts.colour import sequential
from regard.viewer.report.charts.svg import Raw, drawing, element
from regard.viewer.report.numbers import Number, number

__all__ = ["ColourScale", "colour_bar", "heat_map"]

_CELL, _GAP, _LEFT, _TOP = 13.0, 1.0, 20.0, 2.0
_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class ColourScale:
    """What a colour means: amounts from ``low`` to ``high``, or changes around 0."""

    low: Number
    high: Number
    diverging: bool = False

    def paint(self, value: Number) -> dict[str, str]:
        """Return the SVG attributes that colour ``value``; NaN gets the colour of an empty cell."""
        if not np.isfinite(value):
            return {"class_": "empty"}
        if not self.diverging:
            return {"fill": sequential((value - self.low) / ((self.high - self.low) or 1.0))}
        # A change fades into the page, light or dark, where it is small.
        share = min(1.0, abs(value) / (max(abs(self.low), abs(self.high)) or 1.0))
        return {"class_": "up" if value > 0 else "down", "fill_opacity": f"{0.04 + 0.96 * share:.2f}"}


def heat_map(
    values: npt.NDArray[np.float64], *, scale: ColourScale, title: str, layers: Sequence[str], rows: Sequence[str]
) -> Raw:
    """Draw (layers, heads) values; the lowest layer is at the bottom, as in the model.

    Args:
        values: one number per layer and head; NaN is hatched.
        scale: what the colours mean.
        title: what and when.
        layers: names of the layers for the titles of the cells.
        rows: marks beside the rows, a few letters.
    """
    num_layers, num_heads = values.shape
    drawn: list[Raw] = []
    every = max(1, -(-num_layers // 12))
    for layer in range(num_layers):
        y = _TOP + (num_layers - 1 - layer) * _CELL
        if layer % every == 0:
            drawn.append(element("text", rows[layer], x=_LEFT - 4, y=y + 10, class_="small end"))
        for head in range(num_heads):
            name, x = f"{layers[layer]} head {head}", _LEFT + head * _CELL
            drawn.append(_cell(float(values[layer, head]), scale, name, x, y))
    base = _TOP + num_layers * _CELL + 10
    drawn += [
        element("text", str(head), x=_LEFT + (head + 0.5) * _CELL - _GAP, y=base, class_="small mid")
        for head in range(0, num_heads, max(1, -(-num_heads // 4)))
    ]
    known = values[np.isfinite(values)]
    told = f"from {number(float(known.min()))} to {number(float(known.max()))}" if len(known) else "nothing recorded"
    width = _LEFT + num_heads * _CELL
    return drawing(*drawn, width=width, height=base + 3, title=title, description=told, style="heat")


def colour_bar(scale: ColourScale, *, unit: str) -> Raw:
    """Draw the colours of ``scale`` with its ends."""
    width, height = 150.0, 9.0
    largest = max(abs(scale.low), abs(scale.high))
    low, high = (-largest, largest) if scale.diverging else (scale.low, scale.high)
    step = width / _STEPS
    # Strips of an opaque colour overlap a little, so that no seam shows; translucent ones must not.
    strip = step if scale.diverging else step + 0.6
    drawn = []
    for index in range(_STEPS):
        paint = scale.paint(low + (index + 0.5) / _STEPS * (high - low))
        drawn.append(element("rect", x=index * step, y=0, width=strip, height=height, **paint))
    ends = ((0.0, low, "small"), (width / 2, (low + high) / 2, "small mid"), (width, high, "small end"))
    for x, value, style in ends:
        told = f"{'+' if scale.diverging and value > 0 else ''}{number(value, 2)}"
        drawn.append(element("text", told, x=x, y=height + 12, class_=style))
    title = f"Colours from {number(low, 2)} to {number(high, 2)} {unit}".strip()
    return drawing(*drawn, width=width, height=height + 15, title=title, style="colours")


def _cell(value: Number, scale: ColourScale, name: str, x: Number, y: Number) -> Raw:
    told = element("title", f"{name}: {number(value)}" if np.isfinite(value) else f"{name}: not recorded")
    size = _CELL - _GAP
    return element("rect", told, x=x, y=y, width=size, height=size, **scale.paint(value))
