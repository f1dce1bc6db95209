"""The first page of a book: what was translated, how well, and the way to any page."""

from pathlib import Path
from typing import Any

from regard.records import Book, write_bytes
from regard.viewer.book.curve import position_chart
from regard.viewer.book.page import PAGE_LEN, num_pages, page_name
from regard.viewer.book.rendering import environment
from regard.viewer.report.numbers import count, duration, percent, plural

__all__ = ["book_facts", "interval", "length_class", "write_overview"]


def write_overview(book: Book, *, page_len: int = PAGE_LEN) -> Path:
    """Write ``book.html`` into the folder of a book, one self-contained file, and return its path.

    Raises:
        RecordError: a file of the book is damaged.
        MissingDependencyError: Jinja2 is not installed.
    """
    scores = book.info.get("scores")
    content: dict[str, Any] = {
        "name": book.info["source"]["name"],
        "status": book.info["status"],
        "facts": book_facts(book),
        "scores": scores,
        "no_scores": book.info.get("no_scores", "The book is not translated to its end yet."),
        "figures": [position_chart(scores["by_position"], scores["whole"], metric="chrf", title="chrF")]
        if scores
        else [],
        "interval": interval,
        "length_class": length_class,
        "documents": _documents(book, page_len),
        "pages": num_pages(book, page_len),
        "folder": str(book.folder),
    }
    page: str = environment().get_template("book.html.j2").render(**content)
    path = book.folder / "book.html"
    write_bytes(path, page.encode())
    return path


def book_facts(book: Book) -> list[tuple[str, str, str]]:
    """Return name, value and remark of what a person should know about a translated book."""
    info, done = book.info, book.count()
    total = info.get("num_segments", done)
    settings = info["settings"]
    facts = [("Segments", f"{count(done)} of {count(total)}", "each once, in the order of the book")]
    totals = info.get("totals")
    if totals:
        facts += [
            ("Words read", count(totals["source_words"]), f"{count(totals['written_words'])} written"),
            ("Read in pieces", count(totals["in_pieces"]), "rows too long for the model at once"),
            ("Cut", count(totals["cut"]), "translations that ran to the limit of their length"),
            (
                "On the segment itself",
                percent(totals["own"]),
                f"of cross-attention; the rest on its context, {plural(settings['context'], 'segment')}",
            ),
            ("Kept weights cover", percent(totals["covered"]), f"the {settings['top']} largest of each token"),
        ]
    facts += [
        (
            "Time",
            duration(info["seconds"]),
            f"{plural(settings['beams'], 'beam')}, aligned by decoder layer {settings['layer']}",
        ),
        ("Memory at its peak", f"{info['peak_bytes'] / 2**20:,.0f} MiB" if info["peak_bytes"] else "not known", ""),
    ]
    return facts


def interval(score: dict[str, Any]) -> str:
    """Return a score with its interval as text."""
    if score["value"] is None:
        return "–"
    ends = "" if score["low"] is None else f" ({score['low']:.1f} – {score['high']:.1f})"
    return f"{score['value']:.1f}{ends}"


def length_class(part: dict[str, Any], last: bool) -> str:
    """Return what a class of lengths is called."""
    return f"{part['first']} and more" if last else f"{part['first']} to {part['last']}"


def _documents(book: Book, page_len: int) -> list[dict[str, Any]]:
    """Return where each document begins; a document that is come back to is there again."""
    found: list[dict[str, Any]] = []
    for segment in book.segments():
        if not found or found[-1]["name"] != segment.document:
            number = segment.id // page_len + 1
            file = f"pages/{page_name(number)}"
            written = (book.folder / file).exists()
            found.append({"name": segment.document, "size": 0, "page": number, "file": file, "written": written})
        found[-1]["size"] += 1
    return found
