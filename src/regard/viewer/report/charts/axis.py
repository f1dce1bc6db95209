"""Scales from numbers to points, and the ticks and grid of a chart."""

import math
from dataclasses import dataclass

from regard.viewer.report.charts.svg import Raw, element
from regard.viewer.report.numbers import Number, number

__all__ = ["Frame", "Scale", "nice_ticks"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps ``low``..``high`` to ``start``..``end``, evenly or by logarithm."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False

    def __call__(self, value: Number) -> float:
        """Return the point of ``value``."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within the scale."""
        if not self.log:
            return nice_ticks(self.low, self.high, most)
        return _log_ticks(self.low, self.high, most)


def _log_ticks(low: Number, high: Number, most: int) -> list[float]:
    """Return powers of ten, and between them 1, 2, 5 or 1, 3 where there are few, within ``low``..``high``.

    Where fewer than two fit, the scale is short enough for even ticks.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(ticks) <= most + 1:
            return ticks if len(ticks) > 1 else nice_ticks(low, high, most)
    return ticks[:: math.ceil(len(ticks) / most)]


def nice_ticks(low: Number, high: Number, most: int = 5) -> list[float]:
    """Return at most ``most`` + 1 multiples of 1, 2, 2.5 or 5 times a power of ten between ``low`` and ``high``."""
    if not high > low:
        return [float(low)]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [0.0 if index == 0 else index * step for index in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The axes of a chart: where the numbers are and what they are called."""

    x: Scale
    y: Scale
    x_label: str
    y_label: str = ""
    num_x_ticks: int = 5
    num_y_ticks: int = 4

    def draw(self) -> Raw:
        """Return grid lines, ticks and names."""
        return Raw("".join([*self._rows(), *self._columns(), self._names()]))

    def _rows(self) -> list[Raw]:
        drawn = []
        for value in self.y.ticks(self.num_y_ticks):
            y = self.y(value)
            drawn.append(element("line", x1=self.x.start, x2=self.x.end, y1=y, y2=y, class_="grid"))
            drawn.append(element("text", number(value), x=self.x.start - 6, y=y + 4, class_="tick end"))
        return drawn

    def _columns(self) -> list[Raw]:
        base = self.y.start
        drawn = [element("line", x1=self.x.start, x2=self.x.end, y1=base, y2=base, class_="base")]
        for value in self.x.ticks(self.num_x_ticks):
            x = self.x(value)
            drawn.append(element("line", x1=x, x2=x, y1=base, y2=base + 4, class_="base"))
            drawn.append(element("text", number(value, 4), x=x, y=base + 17, class_="tick mid"))
        return drawn

    def _names(self) -> Raw:
        names = [element("text", self.x_label, x=self.x.end, y=self.y.start + 33, class_="axis end")]
        if self.y_label:
            names.append(element("text", self.y_label, x=self.x.start - 36, y=self.y.end - 9, class_="axis"))
        return Raw("".join(names))
