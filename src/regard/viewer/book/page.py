"""One page of a book, in a file of its own: source, translation, and what each word looked at."""

import base64
import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from regard._errors import ArgumentError
from regard.records import Book, BookSegment, write_bytes
from regard.viewer.book.rendering import environment
from regard.viewer.book.words import WrittenWord, split_words, written_words

__all__ = ["PAGE_LEN", "num_pages", "page_name", "page_rows", "page_segments", "write_page"]

PAGE_LEN = 24
"""Segments on a page."""

_LEAST = 0.005  # what would be shown as 0 %
_SCRIPT = Path(__file__).parent / "templates" / "page.js"


def num_pages(book: Book, page_len: int = PAGE_LEN) -> int:
    """Return how many pages of ``page_len`` segments the part of the book has that is translated."""
    return -(-book.count() // page_len)


def page_name(number: int) -> str:
    """Return the name of the file of a page, counted from 1."""
    return f"page-{number:05d}.html"


def write_page(book: Book, number: int, *, page_len: int = PAGE_LEN) -> Path:
    """Write page ``number``, counted from 1, as one HTML file into ``pages/`` of the book's folder; return its path.

    The file needs no network; point at a word of the translation, or move to it with the arrow keys, and the words of
    the source that it looked at light up by their weight.

    Raises:
        ArgumentError: there is no such page.
        RecordError: a file of the book is damaged.
        MissingDependencyError: Jinja2 is not installed.
    """
    segments = page_segments(book, number, page_len)
    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = list(page_rows(book, segments))
    content: dict[str, Any] = {
        "book": book.info,
        "name": Path(book.info["source"]["name"]).name,
        "number": number,
        "last": num_pages(book, page_len),
        "previous": page_name(number - 1) if number > 1 else None,
        "next": page_name(number + 1) if number < num_pages(book, page_len) else None,
        "first_segment": segments[0].id,
        "last_segment": segments[-1].id,
        "total": book.info.get("num_segments"),
        "context": book.info["settings"]["context"],
        "layer": book.info["settings"]["layer"],
        "top": book.info["settings"]["top"],
        "documents": [
            {"name": name, "rows": list(own)} for name, own in groupby(rows, key=lambda row: row["segment"].document)
        ],
        "links": {row["segment"].id: [_links(word) for word in row["written"]] for row in rows},
        "script": script,
        "digest": digest,
    }
    page: str = environment().get_template("page.html.j2").render(**content)
    path = book.folder / "pages" / page_name(number)
    write_bytes(path, page.encode())
    return path


def page_segments(book: Book, number: int, page_len: int) -> list[BookSegment]:
    """Return the segments of a page.

    Raises:
        ArgumentError: there is no such page, or a page without a segment is asked for.
    """
    if page_len < 1:
        raise ArgumentError(f"A page must hold at least 1 segment, got {page_len}.")
    last = num_pages(book, page_len)
    if not 1 <= number <= last:
        told = f"1 to {last}" if last else "there once a block is translated"
        raise ArgumentError(f"A page must be {told}, got {number}.")
    return list(book.segments((number - 1) * page_len, number * page_len))


def page_rows(book: Book, segments: list[BookSegment]) -> Iterator[dict[str, Any]]:
    """Yield for each segment what the page shows: words of both sides and the links between them."""
    context = int(book.info["settings"]["context"])
    first = segments[0].id
    # What stands before the page is read to name the words that its first segments looked back at.
    before = list(book.segments(max(0, first - context), first))
    known = {one.id: one for one in [*before, *segments]}
    found = book.alignments(first, segments[-1].id + 1)
    for segment in segments:
        sources = [segment.source]
        for back in range(1, context + 1):
            earlier = known.get(segment.id - back)
            if earlier is None or earlier.document != segment.document:
                break
            sources.append(earlier.source)
        chosen = found["segment"] == segment.id
        rows = {name: column[chosen] for name, column in found.items()}
        yield {
            "segment": segment,
            "label": segment.label.removeprefix(segment.document).strip() or segment.label,
            "sources": [[source[start:stop] for start, stop in split_words(source)] for source in sources],
            "written": written_words(segment.translation, sources, rows),
        }


def _links(word: WrittenWord) -> list[Any]:
    """Return what the page's script reads of a word: its links, what they cover, what is on its own segment."""
    links = [[one.back, one.word, round(one.weight, 3)] for one in word.links if one.weight >= _LEAST]
    return [links, round(word.covered, 3), round(word.own, 3)]
