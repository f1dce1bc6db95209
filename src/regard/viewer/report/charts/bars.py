"""Bars: label balance by split, and the distribution of lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.svg import Figure, Key, Raw, drawing, element, short
from regard.viewer.report.numbers import Number, count, number, percent

__all__ = ["label_bars", "length_histogram"]

_WIDTH = 520.0
_MAX_LABELS = 16
_NAME_WIDTH, _VALUE_WIDTH = 104.0, 54.0
_BAR = 7.0


@dataclass(frozen=True, kw_only=True)
class _Bin:
    """One bin of a histogram; ``density`` is its share per bin of even width, so that splits compare."""

    low: Number
    high: Number
    share: float
    density: float


def label_bars(splits: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw the share of each label in each split, the labels most frequent in the first split first.

    Args:
        splits: split -> label -> number of rows.
    """
    names = list(splits)
    labels = sorted({label for split in splits.values() for label in split}, key=lambda label: _order(splits, label))
    shown, rest = labels[:_MAX_LABELS], labels[_MAX_LABELS:]
    totals = {name: max(1, sum(split.values())) for name, split in splits.items()}
    shares = {label: [splits[name].get(label, 0) / totals[name] for name in names] for label in shown}
    largest = max((share for row in shares.values() for share in row), default=1.0) or 1.0
    scale = Scale(low=0, high=largest, start=_NAME_WIDTH, end=_WIDTH - _VALUE_WIDTH)
    pitch = _BAR * len(names) + 9
    drawn: list[Raw] = []
    for row, label in enumerate(shown):
        top = row * pitch + 4
        drawn.append(_label(label, top + _BAR * len(names) / 2 + 4))
        for index, (name, share) in enumerate(zip(names, shares[label], strict=True)):
            told = element("title", f"{label}, {name}: {count(splits[name].get(label, 0))} rows, {percent(share)}")
            width = max(0.0, scale(share) - _NAME_WIDTH)
            y = top + index * _BAR
            drawn.append(
                element("rect", told, x=_NAME_WIDTH, y=y, width=width, height=_BAR - 1.5, class_=f"bar s{index + 1}")
            )
        value = percent(shares[label][0])
        drawn.append(element("text", value, x=_WIDTH, y=top + _BAR * len(names) / 2 + 4, class_="tick end"))
    title = "Label balance"
    note = f"The {len(rest)} rarest of {len(labels)} labels are not drawn." if rest else ""
    described = "; ".join(f"{label} {percent(shares[label][0])}" for label in shown)
    svg = drawing(*drawn, width=_WIDTH, height=len(shown) * pitch + 6, title=title, description=described)
    legend = [Key(name=name, style=f"s{index + 1}") for index, name in enumerate(names)]
    return Figure(title=f"{title}, share of each split", svg=svg, legend=legend, note=note)


def length_histogram(
    lengths: Mapping[str, Mapping[str, Sequence[Number]]],
    *,
    unit: str,
    marks: Mapping[str, Number],
    rows: str = "documents",
) -> Figure:
    """Draw the lengths of the first split as bars and of the others as outlines.

    Args:
        lengths: split -> its histogram with ``edges`` and ``counts``.
        unit: what the lengths count.
        marks: name -> length of vertical marks, such as the median.
        rows: what is as long, in the plural.
    """
    height = 236.0
    first = next(iter(lengths.values()))
    width = float(first["edges"][1]) - float(first["edges"][0])
    bins = {name: _bins(histogram, width) for name, histogram in lengths.items()}
    # The last bin may reach to the one longest document; the axis ends where the even bins end.
    right = _even_end(first["edges"])
    top = max((part.density for split in bins.values() for part in split), default=0.0) or 1.0
    frame = Frame(
        x=Scale(low=0, high=right, start=46, end=_WIDTH - 14),
        y=Scale(low=0, high=top * 1.08, start=height - 38, end=22),
        x_label=unit,
        y_label=f"share of {rows} per {number(width)} {unit}",
    )
    drawn = [frame.draw()]
    for index, (name, parts) in enumerate(bins.items()):
        inside = [part for part in parts if part.low < right]
        drawn += (_filled if index == 0 else _outlined)(name, inside, frame, index)
    for row, (name, value) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        if value <= right:
            # Each name on a row of its own, since marks may stand close together.
            x, y = frame.x(value), frame.y.end + 9 + 16 * row
            drawn.append(element("line", x1=x, x2=x, y1=y - 9, y2=frame.y.start, class_="mark"))
            drawn.append(element("text", f"{name} {count(value)}", x=x + 4, y=y, class_="tick"))
    legend = [Key(name=name, style=f"s{index + 1}") for index, name in enumerate(lengths)]
    told = ", ".join(f"{name} {count(value)}" for name, value in marks.items())
    svg = drawing(*drawn, width=_WIDTH, height=height, title=f"Length in {unit}", description=told)
    return Figure(title=f"{rows.removesuffix('s').capitalize()} length in {unit}", svg=svg, legend=legend)


def _order(splits: Mapping[str, Mapping[str, int]], label: str) -> tuple[list[int], str]:
    return [-split.get(label, 0) for split in splits.values()], label


def _label(label: str, y: Number) -> Raw:
    told = label if len(label) <= 14 else f"{label[:13]}…"
    return element("text", element("title", label), told, x=_NAME_WIDTH - 8, y=y, class_="name end")


def _even_end(edges: Sequence[Number]) -> float:
    widths = np.diff(edges)
    return float(edges[-2] if len(widths) > 1 and widths[-1] > 1.5 * widths[0] else edges[-1])


def _bins(histogram: Mapping[str, Sequence[Number]], width: Number) -> list[_Bin]:
    total = max(1, sum(histogram["counts"]))
    parts = zip(pairwise(histogram["edges"]), histogram["counts"], strict=True)
    return [
        _Bin(low=low, high=high, share=found / total, density=found / total * width / (high - low))
        for (low, high), found in parts
    ]


def _filled(name: str, bins: Sequence[_Bin], frame: Frame, index: int) -> list[Raw]:
    drawn = []
    for part in bins:
        told = element("title", f"{name}, {count(part.low)} to {count(part.high)}: {percent(part.share)}")
        x, y = frame.x(part.low) + 0.5, frame.y(part.density)
        width = max(0.5, frame.x(min(part.high, frame.x.high)) - frame.x(part.low) - 1)
        height = max(0.0, frame.y.start - y)
        drawn.append(element("rect", told, x=x, y=y, width=width, height=height, class_=f"bar soft s{index + 1}"))
    return drawn


def _outlined(name: str, bins: Sequence[_Bin], frame: Frame, index: int) -> list[Raw]:
    points = [f"M{short(frame.x.start)} {short(frame.y.start)}"]
    for part in bins:
        right = frame.x(min(part.high, frame.x.high))
        points.append(f"L{short(frame.x(part.low))} {short(frame.y(part.density))}H{short(right)}")
    return [element("path", element("title", name), d="".join(points), class_=f"line s{index + 1}")]
