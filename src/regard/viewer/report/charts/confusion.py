"""The confusion matrix: what each class was taken for."""

from collections.abc import Sequence

import numpy as np

from regard.viewer.report.charts.colour import contrast_text, sequential
from regard.viewer.report.charts.svg import Figure, Raw, drawing, element
from regard.viewer.report.numbers import Number, count, percent

__all__ = ["MAX_CLASSES", "confusion_matrix"]

MAX_CLASSES = 30
_LEFT, _TOP, _WIDTH = 96.0, 80.0, 520.0


def confusion_matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Draw counts, coloured by the share of their row; rows are true classes, columns predicted ones.

    Args:
        counts: square, at most ``MAX_CLASSES`` on a side.
        labels: names of the classes.
    """
    table = np.asarray(counts)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    cell = min(44.0, (_WIDTH - _LEFT - 8) / len(labels))
    drawn: list[Raw] = []
    for index, label in enumerate(labels):
        middle = (index + 0.5) * cell
        drawn.append(element("text", _cut(label), x=_LEFT - 8, y=_TOP + middle + 4, class_="name end"))
        turned = f"translate({_LEFT + middle + 4:.1f} {_TOP - 8:.1f}) rotate(-50)"
        drawn.append(element("text", _cut(label), transform=turned, class_="name"))
    for row, column in np.ndindex(table.shape):
        value, share = int(table[row, column]), float(shares[row, column])
        where = {"x": _LEFT + column * cell, "y": _TOP + row * cell}
        told = (
            f"{labels[row]} taken for {labels[column]}: {count(value)} of {count(int(table[row].sum()))} "
            f"({percent(share)})"
        )
        drawn.append(_cell(value, share, cell, told, **where))
    size = cell * len(labels)
    drawn.append(element("text", "predicted →", x=_LEFT + size, y=_TOP + size + 18, class_="axis end"))
    drawn.append(element("text", "↓ true", x=_LEFT - 8, y=_TOP - 8, class_="axis end"))
    right = int(np.trace(table))
    described = f"{count(right)} of {count(int(table.sum()))} on the diagonal"
    svg = drawing(
        *drawn, width=_LEFT + size + 8, height=_TOP + size + 24, title="Confusion matrix", description=described
    )
    note = "Colour is the share of the true class. Rows are true classes, columns predicted ones."
    return Figure(title="Confusion matrix", svg=svg, note=note)


def _cell(value: int, share: Number, size: Number, told: str, *, x: Number, y: Number) -> Raw:
    # A square root keeps a rare confusion visible beside a diagonal near 1.
    colour = sequential(share**0.5) if value else None
    box = element(
        "rect",
        element("title", told),
        x=x + 0.5,
        y=y + 0.5,
        width=size - 1,
        height=size - 1,
        rx=2,
        fill=colour,
        class_=None if value else "empty",
    )
    if not value or size < 20:
        return box
    ink = contrast_text(colour or "#ffffff")
    text = element("text", str(value), x=x + size / 2, y=y + size / 2 + 4, fill=ink, class_="cell")
    return Raw(box + text)


def _cut(label: str) -> str:
    return label if len(label) <= 13 else f"{label[:12]}…"
