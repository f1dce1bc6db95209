"""A table of layer by head in a terminal, coloured from light to dark by one hue."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.style import Style
from rich.text import Text

__all__ = ["RAMP", "HeatTable", "contrast_colour", "grouped"]

# OKLCH, hue 255°, lightness 0.97 to 0.33 in equal steps: equal steps look equal. Numbers on it are black or white,
# whichever stands out (at least 5:1), so that cells read the same on a light and on a dark terminal.
RAMP = (
    "#eff6ff",
    "#cce2ff",
    "#a9ceff",
    "#84baff",
    "#62a5f9",
    "#4a90e8",
    "#377dd1",
    "#2a6ab5",
    "#255896",
    "#234773",
    "#223650",
)
_FIRST_WITH_WHITE = 7
_NOTHING = "–"
_MEAN = "mean"


@dataclass(frozen=True, kw_only=True)
class HeatTable:
    """One statistic of every head.

    Attributes:
        name: of the statistic.
        formula: what it is.
        unit: of the value, "1" for none.
        range: in words, such as "0 to 1"; also the ends of the colours where it is two numbers.
        values: dotted layer name -> head -> value; NaN where no row counted.
    """

    name: str
    formula: str
    unit: str
    range: str
    values: Mapping[str, Mapping[int, float]]

    def print(self, console: Console) -> None:
        """Draw the table; heads that do not fit beside each other go below."""
        low, high = self._ends()
        console.print(Text.assemble((self.name, "bold"), f"  {self.formula}"), soft_wrap=not console.is_terminal)
        for pattern, layers in grouped(list(self.values)).items():
            console.print(Text(pattern, style="italic"), overflow="fold")
            for line in self._lines(layers, console.width, low, high):
                console.print(line, no_wrap=True, soft_wrap=True)
        console.print(self._legend(low, high, coloured=_has_colours(console)))

    def _lines(self, layers: Mapping[str, str], width: int, low: float, high: float) -> list[Text]:
        heads = sorted({head for layer in layers for head in self.values[layer]})
        cells = {layer: {head: self._number(value) for head, value in self.values[layer].items()} for layer in layers}
        means = {layer: self._number(_mean(list(self.values[layer].values()))) for layer in layers}
        shown = [*means.values(), str(max(heads)), *(cell for row in cells.values() for cell in row.values())]
        wide = 1 + max(len(cell) for cell in shown)
        label = max(len("head"), *(len(name) for name in layers.values()))
        last = 2 + max(wide, len(_MEAN))
        lines = []
        parts = _parts(heads, max(1, (width - label - 1 - last) // wide))
        for part in parts:
            is_last = part is parts[-1]
            names = "".join(f"{head:>{wide}}" for head in part) + (f"{_MEAN:>{last}}" if is_last else "")
            lines.append(Text(f"{'head':>{label}} {names}", style="dim"))
            for layer, name in layers.items():
                line = Text(f"{name:>{label}} ")
                for head in part:
                    value = self.values[layer].get(head, math.nan)
                    line.append(f"{cells[layer].get(head, ''):>{wide}}", _style(value, low, high))
                lines.append(line.append(f"{means[layer]:>{last}}") if is_last else line)
        return lines

    def _ends(self) -> tuple[float, float]:
        """Return where the colours begin and end: the range where it is known, else what the values span."""
        ends = re.fullmatch(r"(\d+) (?:to|or) (\d+)", self.range)
        if ends:
            return float(ends[1]), float(ends[2])
        finite = [value for row in self.values.values() for value in row.values() if math.isfinite(value)]
        return (min(finite), max(finite)) if finite else (0.0, 1.0)

    def _number(self, value: float) -> str:
        if math.isnan(value):
            return _NOTHING
        size = abs(value)
        if size >= 10_000 and math.isfinite(value):
            return f"{value:.0e}"
        return f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"

    def _legend(self, low: float, high: float, *, coloured: bool) -> Text:
        unit = "" if self.unit == "1" else f"{self.unit}, " if self.range else self.unit
        legend = Text(f"{unit}{self.range}", style="dim")
        if coloured:
            legend.append(f"   {self._number(low)} ")
            for colour in RAMP:
                legend.append("  ", Style(bgcolor=colour))
            legend.append(f" {self._number(high)}")
        if any(math.isnan(value) for row in self.values.values() for value in row.values()):
            legend.append(f"   {_NOTHING} no row counted")
        return legend


def grouped(layers: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return pattern -> layer -> its label: layers whose names differ in numbers only stand together.

    Example:
        >>> grouped(["block.0.attn", "block.1.attn", "pooler"])
        {'block.*.attn': {'block.0.attn': '0', 'block.1.attn': '1'}, 'pooler': {'pooler': ''}}
    """
    alike: dict[str, list[str]] = {}
    for layer in layers:
        alike.setdefault(re.sub(r"\d+", "*", layer), []).append(layer)
    groups = {}
    for names in alike.values():
        numbers = [re.findall(r"\d+", name) for name in names]
        differ = [len(set(column)) > 1 for column in zip(*numbers, strict=True)]
        groups[_pattern(names[0], differ)] = {
            name: ".".join(number for number, shown in zip(row, differ, strict=True) if shown)
            for name, row in zip(names, numbers, strict=True)
        }
    return groups


def contrast_colour(step: int) -> str:
    """Return the colour in which a number stands out on ``RAMP[step]``."""
    return "#ffffff" if step >= _FIRST_WITH_WHITE else "#000000"


def _pattern(name: str, differ: Sequence[bool]) -> str:
    stars = iter(differ)
    return re.sub(r"\d+", lambda number: "*" if next(stars) else number[0], name)


def _style(value: float, low: float, high: float) -> Style:
    if not math.isfinite(value):
        return Style()
    share = (value - low) / (high - low) if high > low else 0.0
    step = round(min(max(share, 0.0), 1.0) * (len(RAMP) - 1))
    return Style(color=contrast_colour(step), bgcolor=RAMP[step])


def _mean(values: Sequence[float]) -> float:
    counted = [value for value in values if not math.isnan(value)]
    return sum(counted) / len(counted) if counted else math.nan


def _parts(heads: Sequence[int], most: int) -> list[Sequence[int]]:
    """Cut ``heads`` into parts of at most ``most``, all about as long."""
    number = math.ceil(len(heads) / most)
    size = math.ceil(len(heads) / number)
    return [heads[start : start + size] for start in range(0, len(heads), size)]


def _has_colours(console: Console) -> bool:
    return console.is_terminal and console.color_system is not None and not console.no_color
