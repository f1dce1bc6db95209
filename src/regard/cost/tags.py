"""What is known of the numbers in a piece of memory: what they were made from."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["CONSTANT", "INPUT", "Kind", "Tag", "joined"]

_MOST_SOURCES = 32


class Kind(IntEnum):
    """Made from nothing but ids, positions and fixed numbers; from weights; from inputs and weights; from gradients."""

    CONSTANT = 0
    WEIGHT = 1
    DATA = 2
    GRADIENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What a storage holds.

    Attributes:
        kind: what it was made from.
        sources: numbers of the operations that made it as far back as the last product; -1 stands for an input.
        parameter: name of the parameter that a weight was made from.
        of_scores: whether it was made from a product of two tensors of data and not yet multiplied with values.
        of_softmax: whether a softmax is among what made it.
        is_random: whether random numbers are.
    """

    kind: Kind
    sources: frozenset[int] = frozenset()
    parameter: str | None = None
    of_scores: bool = False
    of_softmax: bool = False
    is_random: bool = False


CONSTANT = Tag(kind=Kind.CONSTANT)
INPUT = Tag(kind=Kind.DATA, sources=frozenset({-1}))


def joined(tags: Iterable[Tag]) -> Tag:
    """Return what a tensor is that is made from tensors of ``tags``."""
    known = tuple(dict.fromkeys(tags))
    if len(known) == 1:
        return known[0]
    if not known:
        return CONSTANT
    sources = frozenset().union(*(tag.sources for tag in known))
    if len(sources) > _MOST_SOURCES:  # as in a loop over time, whose state has no end of them
        sources = frozenset(sorted(sources)[-_MOST_SOURCES:])
    kind = max(tag.kind for tag in known)
    return Tag(
        kind=kind,
        sources=sources,
        parameter=next((tag.parameter for tag in known if tag.parameter), None) if kind == Kind.WEIGHT else None,
        of_scores=any(tag.of_scores for tag in known),
        of_softmax=any(tag.of_softmax for tag in known),
        is_random=any(tag.is_random for tag in known),
    )
