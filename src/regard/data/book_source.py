"""A book as what it is read in: one segment after the other, each of which says where it stands."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from regard._errors import ArgumentError, DataError
from regard.data._suggest import suggestion
from regard.data.parallel import ParallelTexts, load_parallel_table
from regard.data.sentences import SENTENCE_END, paragraphs, sentence_spans
from regard.data.text_files import COMPRESSED, DAMAGED, missing, opened, undecodable
from regard.data.whole_documents import name_documents

__all__ = ["BookColumns", "SourceSegment", "book_digest", "is_plain_text", "read_book"]

_PLAIN = (".txt", ".text", ".md")
# Where a text too long for the model is divided, the best places first: behind a sentence, a clause, a comma (also the
# full-width ones), a word, any character.
_PLACES = (SENTENCE_END, *map(re.compile, (r"[;:\u2014\u2013]\s*", r"[,\uff0c\u3001]\s*", r"\s+", r"(?s).")))


@dataclass(frozen=True, kw_only=True)
class BookColumns:
    """Columns of a table that is a book.

    Attributes:
        source: of the texts that are read.
        target: of their translations by a person; None where there are none.
        document: of the names of documents; None where the table is one document.
        pattern: regular expression whose first group is the document's name; None for the whole cell.
        header: whether CSV and TSV name their columns.
    """

    source: str
    target: str | None = None
    document: str | None = None
    pattern: str | None = None
    header: bool = True


@dataclass(frozen=True, kw_only=True)
class SourceSegment:
    """What is translated at once.

    Attributes:
        document: name of the document that it stands in.
        row: line (row of Parquet) of a table, paragraph of a plain text, from 1.
        label: how a person finds it in the document: the whole cell that names it, such as "Ruth 1:1", or its row.
        piece: which piece of its cell or sentence it is, from 1.
        pieces: how many there are.
        start: first character, of the cell or of the plain text.
        end: behind its last character, white space included.
        text: what is read, runs of white space as one space.
        reference: translation of the whole cell by a person, on its first piece.
    """

    document: str
    row: int
    label: str
    piece: int
    pieces: int
    start: int
    end: int
    text: str
    reference: str | None = None


def is_plain_text(path: Path) -> bool:
    """Whether the name of a file says that it is plain text rather than a table."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in _PLAIN


def book_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: there is no such file.
    """
    if not path.is_file():
        raise DataError(missing(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_book(
    path: Path,
    columns: BookColumns | None,
    *,
    fits: Callable[[str], bool],
    documents: Sequence[str] = (),
) -> Iterator[SourceSegment]:
    """Yield the segments of a book in their order.

    A cell of a table is a segment; a plain text (``.txt``, ``.md``) is divided into paragraphs and sentences. What does
    not fit the model is divided where it harms least: behind a sentence, a clause, a word. Segments of one cell or
    text follow one another without a gap. A plain text is read a paragraph at a time.

    Args:
        path: the file; ``.gz``, ``.bz2`` and ``.xz`` are read through.
        columns: of a table; None for plain text.
        fits: whether the model can read a text at once.
        documents: read these alone; empty for all.

    Raises:
        DataError: a file, column, row or document that cannot be used, or nothing to translate.
        ArgumentError: columns for a plain text, or none for a table.
    """
    if is_plain_text(path) != (columns is None):
        raise ArgumentError(
            f"A table needs the columns of its texts and plain text has none, got {path.name} "
            f"{'with' if columns else 'without'} columns."
        )
    found = _of_text(path, fits) if columns is None else _of_table(path, columns, fits, documents)
    if columns is None and documents:
        raise ArgumentError(f"A plain text is one document, got {path.name} and documents to choose; leave them out.")
    empty = True
    for segment in found:
        empty = False
        yield segment
    if empty:
        raise DataError(f"A book must hold a text to translate, got none in {path}; check that it is the right file.")


def _of_text(path: Path, fits: Callable[[str], bool]) -> Iterator[SourceSegment]:
    if not path.is_file():
        raise DataError(missing(path))
    begin = 0
    try:
        with opened(path) as file:
            for row, paragraph in enumerate(paragraphs(file), start=1):
                if paragraph.strip():
                    for start, end in sentence_spans(paragraph):
                        whole = _Whole(document=path.name, row=row, label=f"paragraph {row}", at=begin + start)
                        yield from _pieces(paragraph[start:end], fits, whole)
                begin += len(paragraph)
    except UnicodeDecodeError as error:
        raise DataError(undecodable(path)) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} must be a whole compressed file, got a damaged one ({error}); copy it again."
        ) from error


def _of_table(
    path: Path, columns: BookColumns, fits: Callable[[str], bool], documents: Sequence[str]
) -> Iterator[SourceSegment]:
    pairs = _table(path, columns)
    labels = pairs.documents if columns.pattern else [f"{pairs.unit} {row}" for row in pairs.rows]
    assert labels is not None, "a pattern is for names of documents"
    pairs = pairs if columns.pattern is None else name_documents(pairs, columns.pattern)
    names = pairs.documents or [path.name] * len(pairs)
    known = set(names)
    for name in documents:
        if name not in known:
            raise DataError(f"A document must be one of {path.name}, got {name!r}; {suggestion(name, known)}")
    for number, (document, text) in enumerate(zip(names, pairs.source, strict=True)):
        if text.strip() and (not documents or document in documents):
            reference = pairs.target[number] if columns.target is not None else ""
            whole = _Whole(document=document, row=pairs.rows[number], label=labels[number], reference=reference)
            yield from _pieces(text, fits, whole)


def _table(path: Path, columns: BookColumns) -> ParallelTexts:
    if columns.pattern is not None and columns.document is None:
        raise ArgumentError(
            "A document's pattern needs the column of the documents, got none; name it, or leave it out."
        )
    return load_parallel_table(
        path,
        source=columns.source,
        target=columns.target or columns.source,
        document=columns.document,
        header=columns.header,
    )


@dataclass(frozen=True, kw_only=True)
class _Whole:
    """What pieces are pieces of: a cell or a sentence."""

    document: str
    row: int
    label: str
    at: int = 0
    reference: str = ""


def _pieces(text: str, fits: Callable[[str], bool], whole: _Whole) -> Iterator[SourceSegment]:
    spans = _divided(text, 0, len(text), fits)
    for number, (start, end) in enumerate(spans, start=1):
        yield SourceSegment(
            document=whole.document,
            row=whole.row,
            label=whole.label,
            piece=number,
            pieces=len(spans),
            start=whole.at + start,
            end=whole.at + end,
            text=" ".join(text[start:end].split()),
            reference=whole.reference if number == 1 and whole.reference.strip() else None,
        )


def _divided(text: str, start: int, end: int, fits: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Return spans that cover ``text[start:end]``, each of which fits."""
    part = text[start:end]
    if end - start < 2 or fits(" ".join(part.split())):
        return [(start, end)]
    cut = start + _cut(part)
    return [*_divided(text, start, cut, fits), *_divided(text, cut, end, fits)]


def _cut(part: str) -> int:
    """Return the best place near the middle of ``part``, with text on both sides."""
    for place in _PLACES:
        cuts = [one.end() for one in place.finditer(part) if part[: one.end()].strip() and part[one.end() :].strip()]
        best = min(cuts, key=lambda cut: abs(2 * cut - len(part)), default=0)
        # Near an end little would be gained; a worse kind of place nearer the middle is better then.
        if len(part) <= 8 * best <= 7 * len(part):
            return best
    return len(part) // 2
