"""Pairs of texts that follow one another in documents: their names, what stands before each, whole ones held out."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regard._errors import ArgumentError, DataError
from regard.data._suggest import listed, suggestion
from regard.data.documents import normalized
from regard.data.parallel import ParallelTexts

__all__ = ["HeldOut", "document_names", "hold_out_documents", "name_documents", "with_contexts", "without_sources_of"]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Documents divided.

    Attributes:
        rest: the pairs of the other documents.
        held: the pairs of the documents that are held out.
        names: of these, in the order of the file.
    """

    rest: ParallelTexts
    held: ParallelTexts
    names: list[str]


def document_names(pairs: ParallelTexts) -> list[str]:
    """Return the names of the documents of ``pairs``, each once, in the order in which they begin.

    Raises:
        ArgumentError: the pairs do not say in which documents they stand.
    """
    if pairs.documents is None:
        raise ArgumentError(f"The pairs of {pairs.name} must name their documents, got none; name the column.")
    return list(dict.fromkeys(pairs.documents))


def name_documents(pairs: ParallelTexts, pattern: str) -> ParallelTexts:
    r"""Return ``pairs`` whose documents are called what the first group of ``pattern`` finds in their present names.

    Example:
        >>> verse = ParallelTexts(source=["a"], target=["b"], name="x", rows=[1], documents=["I Kings 2:3"])
        >>> name_documents(verse, r"(.+) \d+:\d+").documents
        ['I Kings']

    Args:
        pairs: with documents.
        pattern: a regular expression for the whole of a name.

    Raises:
        ArgumentError: ``pattern`` is no regular expression with a group, or the pairs have no documents.
        DataError: a name that it does not fit.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ArgumentError(f"A document's pattern must be a regular expression, got {pattern!r}: {error}.") from error
    if not compiled.groups:
        raise ArgumentError(
            f"A document's pattern must have a group for the name, got {pattern!r}; put brackets around that part."
        )
    document_names(pairs)
    found = [compiled.fullmatch(name) for name in pairs.documents or []]
    if None in found:
        index = found.index(None)
        name = (pairs.documents or [])[index]
        raise DataError(f"A document's name must fit {pattern!r}, got {name!r} at {pairs.where(index)}; mend either.")
    return replace(pairs, documents=[match[1] for match in found if match is not None])


def with_contexts(pairs: ParallelTexts, size: int) -> ParallelTexts:
    """Return ``pairs`` each of which knows the ``size`` sources before it in its document, fewer at its beginning."""
    document_names(pairs)
    before: dict[str, tuple[str, ...]] = {}
    contexts = []
    for name, text in zip(pairs.documents or [], pairs.source, strict=True):
        contexts.append(before.get(name, ()))
        before[name] = (text, *before.get(name, ()))[:size]
    return replace(pairs, contexts=contexts)


def hold_out_documents(pairs: ParallelTexts, *, share: float, seed: int, names: Sequence[str] | None = None) -> HeldOut:
    """Divide pairs into a part to train on and whole documents that are held out.

    Args:
        pairs: with documents.
        share: share of the pairs to hold out, in (0, 1): documents are drawn and taken as long as they fit into it, so
            that a little less than the share is held out; if none fits, the shortest is.
        seed: the same seed draws the same documents.
        names: hold out these documents instead.

    Raises:
        ArgumentError: ``share`` is out of range, or the pairs have no documents.
        DataError: a document that is not there, or no document is left to train on.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"share must lie between 0 and 1, both excluded, got {share}; 0.1 holds out a tenth.")
    known = document_names(pairs)
    for name in names or ():
        if name not in known:
            raise DataError(
                f"A document to hold out must be one of {pairs.name}, got {name!r}; {suggestion(name, known)}"
            )
    if len(known) < 2:
        raise DataError(f"Holding out documents needs two or more, got {listed(known)} in {pairs.name}; add some.")
    chosen = set(names) if names else _drawn(pairs, known, share * len(pairs), seed)
    if len(chosen) == len(known):
        raise DataError(f"A document must be left to train on, got all {len(known)} of {pairs.name} held out.")
    held = [index for index, name in enumerate(pairs.documents or []) if name in chosen]
    rest = [index for index, name in enumerate(pairs.documents or []) if name not in chosen]
    return HeldOut(rest=pairs.take(rest), held=pairs.take(held), names=[name for name in known if name in chosen])


def without_sources_of(pairs: ParallelTexts, held: Iterable[ParallelTexts]) -> tuple[ParallelTexts, list[str]]:
    """Leave out the pairs whose source stands, word for word, in one of ``held``: books quote one another.

    Returns:
        The other pairs, and where each that was left out came from.

    Raises:
        DataError: no pair is left.
    """
    known = {normalized(text) for part in held for text in part.source}
    kept = [index for index, text in enumerate(pairs.source) if normalized(text) not in known]
    if not kept:
        raise DataError(
            f"A pair must be left to train on, got none in {pairs.name} that is not held out; check the files."
        )
    left = set(kept)
    return pairs.take(kept), [pairs.where(index) for index in range(len(pairs)) if index not in left]


def _drawn(pairs: ParallelTexts, known: Sequence[str], wanted: float, seed: int) -> set[str]:
    """Return the names of documents of about ``wanted`` pairs together."""
    sizes = dict.fromkeys(known, 0)
    for name in pairs.documents or []:
        sizes[name] += 1
    chosen: set[str] = set()
    held = 0
    for place in np.random.default_rng(seed).permutation(len(known)):
        if held + sizes[known[place]] <= wanted:
            chosen.add(known[place])
            held += sizes[known[place]]
    return chosen or {min(known, key=lambda name: sizes[name])}
