"""Spans that tags spell: ``B-PER I-PER O`` is one person of two words.

Read as the evaluation script of CoNLL-2000 reads them, which the library seqeval follows: a span that is begun in
the wrong way, such as ``I-PER`` behind ``O``, is a span all the same, so IOB1, IOB2 (BIO) and IOBES (BIOES, BILOU)
are read by one rule.
"""

import re
from collections.abc import Iterable, Sequence

__all__ = ["Span", "spans_of", "spell_spans"]

Span = tuple[str, int, int]
"""Type, first word, and the word behind the last."""

_OUTSIDE = "O"
_SPELT = re.compile(r"([BIESLU])-(.+)")
_SAME = {"L": "E", "U": "S"}  # BILOU's letters for the last word of a span and for one alone


def spell_spans(tags: Iterable[str]) -> bool:
    """Whether all ``tags`` are ``O`` or of the form ``B-TYPE``, and there is one that is not ``O``.

    Example:
        >>> spell_spans(["B-PER", "O"]), spell_spans(["NOUN", "VERB"]), spell_spans(["O"])
        (True, False, False)
    """
    inside = set(tags) - {_OUTSIDE}
    return bool(inside) and all(_SPELT.fullmatch(tag) for tag in inside)


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one sentence, in order.

    A span begins at B and S, at a type other than the one before, and at any letter behind O, E or S; it ends before
    the next one begins, before O, and with E or S.

    Args:
        tags: those for which ``spell_spans`` holds; a tag of another form counts as ``O``.

    References:
        Ramshaw and Marcus, Text chunking using transformation-based learning, arXiv:cmp-lg/9505040 (IOB1); Tjong Kim
        Sang and Buchholz, Introduction to the CoNLL-2000 shared task, arXiv:cs/0009008.

    Example:
        >>> spans_of(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
        [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    found: list[Span] = []
    open_type: str | None = None
    first = 0
    for place, tag in enumerate(tags):
        letter, kind = _parts(tag)
        if open_type is not None and (kind != open_type or letter in ("B", "S")):
            found.append((open_type, first, place))
            open_type = None
        if kind is not None and open_type is None:
            open_type, first = kind, place
        if open_type is not None and letter in ("E", "S"):
            found.append((open_type, first, place + 1))
            open_type = None
    if open_type is not None:
        found.append((open_type, first, len(tags)))
    return found


def _parts(tag: str) -> tuple[str, str | None]:
    match = _SPELT.fullmatch(tag)
    if match is None:
        return _OUTSIDE, None
    return _SAME.get(match[1], match[1]), match[2]
