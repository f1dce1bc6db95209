"""Judge a translated book: its scores where a person has translated it, and what its files add up to."""

from itertools import groupby
from typing import Any

from regard._errors import MissingDependencyError, RecordError
from regard.evaluate import score_book
from regard.records import Book, BookSegment

__all__ = ["judge_book"]


def judge_book(book: Book, *, seed: int = 0) -> dict[str, Any]:
    """Write into ``book.json`` what a finished book adds up to, and its scores, and return them.

    ``scores`` is what ``score_book`` returns over all rows with a reference, the pieces of a row joined; without such
    rows, or without sacrebleu, it is None and ``no_scores`` says why. ``totals`` counts words, rows read in pieces and
    translations that were cut, and has the mean weight that is on the segment itself and that the kept weights cover.

    Raises:
        RecordError: the book is not translated to its end, or a file is damaged.
    """
    if not book.finished:
        raise RecordError(f"A book must be translated to its end to be judged, got one that is not in {book.folder}.")
    rows, totals = _rows(book)
    content: dict[str, Any] = {"totals": {**totals, **book.mean_alignment()}, "scores": None, "no_scores": None}
    judged = [(source, text, reference) for source, text, reference in rows if reference is not None]
    if judged:
        try:
            content["scores"] = score_book(*map(list, zip(*judged, strict=True)), seed=seed)
            content["scores"]["num_without_reference"] = len(rows) - len(judged)
        except MissingDependencyError as error:
            content["no_scores"] = str(error)
    else:
        content["no_scores"] = "There is no translation by a person to compare with, so nothing is scored."
    book.update(**content)
    return content


def _rows(book: Book) -> tuple[list[tuple[str, str, str | None]], dict[str, int]]:
    """Return source, translation and reference of each row, its pieces joined, and counts over all."""
    rows: list[tuple[str, str, str | None]] = []
    totals = dict.fromkeys(("source_words", "written_words", "in_pieces", "cut"), 0)
    for _, pieces in groupby(book.segments(), key=_row):
        parts = list(pieces)
        source = " ".join(part.source for part in parts)
        text = " ".join(part.translation for part in parts)
        rows.append((source, text, parts[0].reference))
        totals["source_words"] += len(source.split())
        totals["written_words"] += len(text.split())
        totals["in_pieces"] += len(parts) > 1
        totals["cut"] += sum(not part.ended for part in parts)
    return rows, totals


def _row(segment: BookSegment) -> tuple[str, int, int]:
    """Return what the pieces of one cell or sentence have in common: each begins where its first piece is."""
    return segment.document, segment.row, segment.id - segment.piece
