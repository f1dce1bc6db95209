"""Curves as one SVG file: both axes logarithmic, where a power law is a straight line, or both even."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

from regard._errors import ArgumentError

__all__ = ["Curve", "Mark", "draw_curves", "one_above_the_other"]

_WIDTH, _HEIGHT = 720.0, 440.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 74.0, 206.0, 44.0, 52.0
_COLOURS = ("#3b6fd4", "#c2410c", "#0f8a5f", "#8b5cf6", "#b4881a", "#64748b", "#be185d")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.t{font-weight:600;font-size:15px}.q{fill:#616e7c;font-size:12px}"
    ".g{stroke:#d9dee4}.b{stroke:#616e7c}.m{stroke:#616e7c;stroke-dasharray:4 4}.l{fill:none;stroke-width:2.2}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.q{fill:#9aa5b1}.g{stroke:#3a4450}.b,.m{stroke:#9aa5b1}}"
)
_MOST_DOTS = 64
_SHORT = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve through points; ``dashed`` for what was not measured.

    ``low`` and ``high`` are the ends of an interval around each point, drawn as a band; either both or none.
    """

    name: str
    x: Sequence[int | float]
    y: Sequence[int | float]
    dashed: bool = False
    low: Sequence[int | float] = ()
    high: Sequence[int | float] = ()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A length at which something happens, drawn as an upright line."""

    x: int | float
    text: str


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    y_label: str,
    x_label: str = "length in tokens",
    marks: Sequence[Mark] = (),
    log: bool = True,
) -> str:
    """Return an SVG of ``curves`` over what ``x_label`` says, with logarithmic axes unless ``log`` is False.

    Raises:
        ArgumentError: no point to draw; on logarithmic axes, none above 0.
    """
    drawn = [_positive(curve) for curve in curves] if log else list(curves)
    drawn = [curve for curve in drawn if curve.x]
    if not drawn:
        raise ArgumentError(f"A drawing needs a curve with a point{' above 0' if log else ''}, got none.")
    axis = _Axis if log else _EvenAxis
    x = axis([value for curve in drawn for value in curve.x], _LEFT, _WIDTH - _RIGHT)
    y = axis([value for curve in drawn for value in (*curve.y, *curve.low, *curve.high)], _HEIGHT - _BOTTOM, _TOP)
    shown = [mark for mark in marks if x.low <= mark.x <= x.high]
    parts = [_grid(x, y), *(_marked(mark, x, number) for number, mark in enumerate(shown)), *_lines(drawn, x, y)]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts += [
        _text(title, _LEFT, 22, "t"),
        _text(x_label, middle, _HEIGHT - 12, "q", "middle"),
        _text(y_label, _LEFT, _TOP - 8, "q"),
    ]
    told = "; ".join(_told(curve) for curve in drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" '
        f'height="{_HEIGHT:g}" role="img"><title>{escape(title)}</title><desc>{escape(told)}</desc>'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def one_above_the_other(drawings: Sequence[str], *, title: str) -> str:
    """Return several drawings of ``draw_curves`` as one."""
    placed = [one.replace("<svg ", f'<svg y="{number * _HEIGHT:g}" ', 1) for number, one in enumerate(drawings)]
    height = _HEIGHT * len(drawings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" '
        f'height="{height:g}" role="img"><title>{escape(title)}</title>{"".join(placed)}</svg>\n'
    )


def _told(curve: Curve) -> str:
    first, last = (f"{short(curve.y[end])} at {short(curve.x[end])}" for end in (0, -1))
    return f"{curve.name} from {first} to {last}"


def short(value: int | float) -> str:
    """Return a number of at most four signs and a letter, such as 131k or 2.5G."""
    for size, letter in _SHORT:
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


class _Axis:
    """From values to points by logarithm: ticks at powers of 10, of 2 or 5 where those are few, else at even steps."""

    def __init__(self, values: Sequence[int | float], start: int | float, end: int | float) -> None:
        self.low, self.high = min(values), max(values)
        if self.high <= self.low:
            self.low, self.high = self.low / 2, self.high * 2
        self._start, self._end = start, end

    def __call__(self, value: int | float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) <= 4 else (1,)
        inside = [f * 10.0**power for power in powers for f in factors if self.low <= f * 10.0**power <= self.high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 9)]
        return _even_steps(self.low, self.high)


class _EvenAxis(_Axis):
    """From values to points in proportion, with ticks at even steps."""

    def __init__(self, values: Sequence[int | float], start: int | float, end: int | float) -> None:
        super().__init__(values, start, end)
        if self.high <= self.low:
            self.low, self.high = self.low - 1, self.low + 1

    def __call__(self, value: int | float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        return _even_steps(self.low, self.high)


def _even_steps(low: int | float, high: int | float) -> list[float]:
    """Return three to eight round numbers in between."""
    power = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= (high - low) / 3)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _positive(curve: Curve) -> Curve:
    """Keep what a logarithm can show; a band that reaches down to 0 ends at a tenth of its curve."""
    kept = [n for n, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)) if x > 0 and y > 0 and math.isfinite(y)]
    if not curve.low:
        return replace(curve, x=[curve.x[n] for n in kept], y=[curve.y[n] for n in kept])
    low = [max(curve.low[n], curve.y[n] / 10) for n in kept]
    high = [curve.high[n] for n in kept]
    return replace(curve, x=[curve.x[n] for n in kept], y=[curve.y[n] for n in kept], low=low, high=high)


def _grid(x: _Axis, y: _Axis) -> str:
    parts = []
    for value in y.ticks():
        at = y(value)
        parts.append(f'<line class="g" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(short(value), _LEFT - 8, at + 4, "q", "end"))
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="b" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{base:g}" y2="{base:g}"/>')
    for value in x.ticks():
        parts.append(f'<line class="b" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{base:g}" y2="{base + 5:g}"/>')
        parts.append(_text(short(value), x(value), base + 19, "q", "middle"))
    return "".join(parts)


def _marked(mark: Mark, x: _Axis, number: int) -> str:
    at, top = x(mark.x), _TOP + 12 + 16 * number
    line = f'<line class="m" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP:g}" y2="{_HEIGHT - _BOTTOM:g}"/>'
    left = at > (_LEFT + _WIDTH - _RIGHT) / 2
    return line + _text(mark.text, at - 6 if left else at + 6, top, "q", "end" if left else "start")


def _lines(curves: Sequence[Curve], x: _Axis, y: _Axis) -> list[str]:
    parts, end = [], _WIDTH - _RIGHT
    heights = _spread([y(curve.y[-1]) for curve in curves])
    for number, (curve, height) in enumerate(zip(curves, heights, strict=True)):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(length), y(cost)) for length, cost in zip(curve.x, curve.y, strict=True)]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        if curve.low:
            ends = [*zip(curve.x, curve.high, strict=True), *reversed(list(zip(curve.x, curve.low, strict=True)))]
            band = " ".join(f"{x(across):.1f},{y(down):.1f}" for across, down in ends)
            parts.append(f'<polygon fill="{colour}" fill-opacity="0.15" points="{band}"/>')
        dashes = ' stroke-dasharray="6 4"' if curve.dashed else ""
        parts.append(f'<polyline class="l" stroke="{colour}"{dashes} points="{line}"/>')
        dots = points if len(points) <= _MOST_DOTS else []
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in dots]
        across, down = points[-1]
        to_label = f'x1="{across + 4:.1f}" x2="{end + 12:g}" y1="{down:.1f}" y2="{height:.1f}"'
        parts.append(f'<line stroke="{colour}" {to_label}/>')
        parts.append(_text(curve.name, end + 16, height + 4, ""))
    return parts


def _spread(heights: Sequence[int | float]) -> list[float]:
    """Return heights of labels near ``heights`` that do not cover each other."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    placed = list(heights)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + 17)
    over = placed[order[-1]] - (_HEIGHT - _BOTTOM)
    return [height - max(0.0, over) for height in placed]


def _text(text: str, x: int | float, y: int | float, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
