"""Bars: label balance by split, and the distribution of lengths."""

from collections.abc import Mapping, Sequence

import numpy as np

from regard.viewer.report.charts.axis import Frame, Scale
from regard.viewer.report.charts.svg import Figure, Key, Raw, drawing, element, short
from regard.viewer.report.numbers import Number, count, percent

__all__ = ["label_bars", "length_histogram"]

_WIDTH = 520.0
_MAX_LABELS = 16
_NAME_WIDTH, _VALUE_WIDTH = 104.0, 54.0
_BAR = 7.0


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
    lengths: Mapping[str, Mapping[str, Sequence[Number]]], *, unit: str, marks: Mapping[str, Number]
) -> Figure:
    """Draw the lengths of the first split as bars and of the others as outlines.

    Args:
        lengths: split -> its histogram with ``edges`` and ``counts``.
        unit: what the lengths count.
        marks: name -> length of vertical marks, such as the median.
    """
    height = 236.0
    shares = {name: np.asarray(h["counts"], dtype=np.float64) / max(1, sum(h["counts"])) for name, h in lengths.items()}
    # The last bin may reach to the one longest document; the axis ends where the even bins end.
    right = max(_even_end(histogram["edges"]) for histogram in lengths.values())
    top = max(float(share.max()) for share in shares.values()) or 1.0
    frame = Frame(
        x=Scale(low=0, high=right, start=46, end=_WIDTH - 14),
        y=Scale(low=0, high=top * 1.08, start=height - 38, end=22),
        x_label=unit,
        y_label="share of documents",
    )
    drawn = [frame.draw()]
    for index, (name, histogram) in enumerate(lengths.items()):
        draw = _filled if index == 0 else _outlined
        drawn += draw(name, [min(edge, right) for edge in histogram["edges"]], shares[name], frame, index)
    for row, (name, value) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        if value <= right:
            # Each name on a row of its own, since marks may stand close together.
            x, y = frame.x(value), frame.y.end + 9 + 16 * row
            drawn.append(element("line", x1=x, x2=x, y1=y - 9, y2=frame.y.start, class_="mark"))
            drawn.append(element("text", f"{name} {count(value)}", x=x + 4, y=y, class_="tick"))
    legend = [Key(name=name, style=f"s{index + 1}") for index, name in enumerate(lengths)]
    told = ", ".join(f"{name} {count(value)}" for name, value in marks.items())
    svg = drawing(*drawn, width=_WIDTH, height=height, title=f"Length in {unit}", description=told)
    return Figure(title=f"Document length in {unit}", svg=svg, legend=legend)


def _order(splits: Mapping[str, Mapping[str, int]], label: str) -> tuple[list[int], str]:
    return [-split.get(label, 0) for split in splits.values()], label


def _label(label: str, y: Number) -> Raw:
    told = label if len(label) <= 14 else f"{label[:13]}…"
    return element("text", element("title", label), told, x=_NAME_WIDTH - 8, y=y, class_="name end")


def _even_end(edges: Sequence[Number]) -> float:
    widths = np.diff(edges)
    return float(edges[-2] if len(widths) > 1 and widths[-1] > 1.5 * widths[0] else edges[-1])


def _filled(name: str, edges: Sequence[Number], shares: np.ndarray, frame: Frame, index: int) -> list[Raw]:
    drawn = []
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        if high > low and share > 0:
            told = element("title", f"{name}, {count(low)} to {count(high)}: {percent(float(share))}")
            x, y = frame.x(low) + 0.5, frame.y(float(share))
            width = max(0.5, frame.x(high) - frame.x(low) - 1)
            drawn.append(
                element("rect", told, x=x, y=y, width=width, height=frame.y.start - y, class_=f"bar soft s{index + 1}")
            )
    return drawn


def _outlined(name: str, edges: Sequence[Number], shares: np.ndarray, frame: Frame, index: int) -> list[Raw]:
    points = [f"M{short(frame.x(edges[0]))} {short(frame.y.start)}"]
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        if high > low:
            points.append(f"L{short(frame.x(low))} {short(frame.y(float(share)))}H{short(frame.x(high))}")
    return [element("path", element("title", name), d="".join(points), class_=f"line s{index + 1}")]
