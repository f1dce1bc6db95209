"""Dotted module names in the order of the model, shortened to what tells them apart."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

__all__ = ["natural_order", "row_marks", "short_names"]

_STACKS = {"block", "blocks", "h", "layer", "layers"}


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names so that layer 10 comes after layer 9."""
    return sorted(set(names), key=_parts)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each of ``names``: what is left without their common beginning and end.

    Example:
        >>> short_names(["bert.encoder.layer.0.attention", "bert.encoder.layer.1.attention"])
        {'bert.encoder.layer.0.attention': 'layer 0', 'bert.encoder.layer.1.attention': 'layer 1'}
    """
    split = [name.split(".") for name in names]
    if len(set(names)) < 2:
        return {name: _single(parts) for name, parts in zip(names, split, strict=True)}
    head = _common(split)
    tail = _common([parts[head:][::-1] for parts in split])
    short = {}
    for name, parts in zip(names, split, strict=True):
        rest = ".".join(parts[head : len(parts) - tail])
        short[name] = f"layer {rest}" if rest.isdigit() else rest or name
    return short


def row_marks(names: Sequence[str]) -> list[str]:
    """Return a mark of few letters for each of ``names``: its numbers, and the first letters of what else differs.

    Example:
        >>> row_marks(["encoder.layer.0.attention", "decoder.layer.0.self_attention"])
        ['e0', 'd0s']
    """
    short = short_names(names)
    marks = ["".join(_letter(part) for part in short[name].removeprefix("layer ").split(".")) for name in names]
    return marks if len(set(marks)) == len(set(names)) else [str(number) for number in range(len(names))]


def _letter(part: str) -> str:
    if part.isdigit():
        return part
    return "" if part in _STACKS or part in ("attention", "attn") else part[:1]


def _single(parts: Sequence[str]) -> str:
    for before, after in pairwise(parts):
        if before in _STACKS and after.isdigit():
            return f"layer {after}"
    return ".".join(parts[-2:])


def _common(split: Sequence[Sequence[str]]) -> int:
    """Number of leading components that all share; each keeps at least nothing."""
    depth = 0
    for column in zip(*split, strict=False):
        if len(set(column)) > 1:
            break
        depth += 1
    return depth


def _parts(name: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.]|(\d+)", name) if part]
