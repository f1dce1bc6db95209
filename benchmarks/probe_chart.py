"""Accuracy against distance as one SVG file: distances by logarithm, shares from 0 to 1, intervals as bands."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from regard.records import Interval

__all__ = ["draw_accuracy"]

_WIDTH, _HEIGHT = 560.0, 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 96.0, 40.0, 48.0
_COLOURS = ("#3b6fd4", "#c2410c", "#0f8a5f")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.t{font-weight:600;font-size:15px}.q{fill:#616e7c;font-size:12px}"
    ".g{stroke:#d9dee4}@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.q{fill:#9aa5b1}.g{stroke:#3a4450}}"
)


def draw_accuracy(title: str, distances: Sequence[int], curves: Mapping[str, Sequence[Interval]], chance: float) -> str:
    """Return the drawing; ``chance`` is what guessing gets right, a dashed line."""
    span = math.log(distances[-1] / distances[0]) or 1.0
    x = [_LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(distance / distances[0]) / span for distance in distances]
    parts = [_text(title, _LEFT, 20, "t"), _text("distance", _WIDTH - _RIGHT, _HEIGHT - 10, "q", "end")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_line(share, share, "g"))
        parts.append(_text(f"{share:g}", _LEFT - 8, _y(share) + 4, "q", "end"))
    for distance, at in zip(distances, x, strict=True):
        parts.append(_text(str(distance), at, _HEIGHT - _BOTTOM + 18, "q", "middle"))
    parts.append(_line(chance, chance, "g", 'stroke-dasharray="5 4"'))
    last = [(curve[-1].value or 0.0, name) for name, curve in curves.items()]
    heights = _apart(sorted(last, reverse=True))
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        upper = [f"{at:.1f},{_y(one.high or 0.0):.1f}" for at, one in zip(x, curve, strict=True)]
        lower = [f"{at:.1f},{_y(one.low or 0.0):.1f}" for at, one in zip(x, curve, strict=True)]
        points = [(at, _y(one.value or 0.0)) for at, one in zip(x, curve, strict=True)]
        parts.append(f'<polygon fill="{colour}" opacity=".18" points="{" ".join(upper + lower[::-1])}"/>')
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2.2" points="{line}"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in points]
        parts.append(_text(name, _WIDTH - _RIGHT + 10, heights[name] + 4, "", fill=colour))
    told = "; ".join(f"{name} {curve[0].value:.2f} to {curve[-1].value:.2f}" for name, curve in curves.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" '
        f'height="{_HEIGHT:g}" role="img"><title>{escape(title)}</title><desc>{escape(told)}</desc>'
        f"<style>{_STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _apart(last: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Return heights of the names, from the highest share on, that do not cover each other."""
    placed: dict[str, float] = {}
    lowest = -math.inf
    for share, name in last:
        lowest = placed[name] = max(_y(share), lowest + 16)
    return placed


def _line(first: float, second: float, style: str, more: str = "") -> str:
    ends = f'x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{_y(first):.1f}" y2="{_y(second):.1f}"'
    return f'<line class="{style}" {ends} {more}/>'


def _text(text: str, x: float, y: float, style: str, anchor: str = "start", fill: str | None = None) -> str:
    colour = "" if fill is None else f' style="fill:{fill}"'
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{colour}>{escape(text)}</text>'
