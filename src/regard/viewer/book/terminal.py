"""A book on a terminal: its scores on one screen, and a page of it with what each word looked at."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from regard.records import Book
from regard.viewer.book.overview import book_facts, interval, length_class
from regard.viewer.book.page import PAGE_LEN, num_pages, page_rows, page_segments
from regard.viewer.book.words import WordLink, WrittenWord

__all__ = ["book_summary", "page_text"]

_MARKED = 0.15  # a word that a word looked at less is not named


def book_summary(book: Book) -> RenderableType:
    """Return what there is to know about a book on one screen, for ``rich.console.Console.print``."""
    parts: list[RenderableType] = [Text.assemble((book.info["source"]["name"], "bold"), f"  {book.info['status']}")]
    parts += [
        Text(f"  {name.lower()}: {value}{f', {remark}' if remark else ''}") for name, value, remark in book_facts(book)
    ]
    scores = book.info.get("scores")
    if scores is None:
        parts.append(Text(f"  {book.info.get('no_scores', 'not translated to its end yet, so nothing is scored')}"))
        return Group(*parts)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, justify in (("part", "left"), ("rows", "right"), ("chrF", "left"), ("BLEU", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    whole = scores["whole"]
    table.add_row("the whole", f"{whole['num_rows']:,}", interval(whole["chrf"]), interval(whole["bleu"]), style="bold")
    for number, part in enumerate(scores["by_position"], start=1):
        told = f"tenth {number}" if len(scores["by_position"]) == 10 else f"part {number}"
        table.add_row(told, f"{part['num_rows']:,}", interval(part["chrf"]), interval(part["bleu"]))
    for part in scores["by_length"]:
        name = f"{length_class(part, part is scores['by_length'][-1])} words"
        table.add_row(name, f"{part['num_rows']:,}", interval(part["chrf"]), interval(part["bleu"]))
    return Group(*parts, Text(), Padding(table, (0, 0, 0, 2)))


def page_text(book: Book, number: int, *, page_len: int = PAGE_LEN) -> RenderableType:
    """Return page ``number`` (from 1): each segment, its translation, and below it the words with their sources.

    Raises:
        ArgumentError: there is no such page.
        RecordError: a file of the book is damaged.
    """
    segments = page_segments(book, number, page_len)
    parts: list[RenderableType] = [
        Text(
            f"page {number} of {num_pages(book, page_len)}, segments {segments[0].id + 1:,} to {segments[-1].id + 1:,}",
            "dim",
        )
    ]
    document = None
    for row in page_rows(book, segments):
        segment = row["segment"]
        if segment.document != document:
            document = segment.document
            parts += [Text(), Text(document, "bold")]
        piece = f" ({segment.piece} of {segment.pieces})" if segment.pieces > 1 else ""
        parts += [Text(), Text(f"{row['label']}{piece}  {segment.source}")]
        parts.append(Text(f"  → {segment.translation}{'' if segment.ended else ' [cut]'}", "cyan"))
        if segment.reference:
            parts.append(Text(f"  = {segment.reference}", "dim"))
        told = ", ".join(_links(row["written"], row["sources"]))
        parts.append(Padding(Text(told, "dim"), (0, 0, 0, 4)))
    return Group(*parts)


def _links(written: list[WrittenWord], sources: list[list[str]]) -> Iterator[str]:
    """Yield ``word ← source 81 %`` for the words that looked at some word of a segment more than a little."""
    for word in written:
        named = [link for link in word.links if link.weight >= _MARKED and link.word >= 0]
        if named:
            yield f"{word.text} ← " + " ".join(_told(link, sources) for link in named[:2])


def _told(link: WordLink, sources: list[list[str]]) -> str:
    before = "" if link.back == 0 else "(before) "
    return f"{before}{sources[link.back][link.word]} {100 * link.weight:.0f} %"
