"""`regard book`: look at a translated book, at its scores or at any page of it."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard book books/novel --page 2")(book)


def book(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of a book that `regard translate` wrote.")],
    page: Annotated[int | None, typer.Option(min=1, help="Make this page as an HTML file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Make every page.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Show the page here instead.")] = False,
    page_len: Annotated[int, typer.Option(min=1, help="Segments on a page.")] = 24,
) -> None:
    """Show a translated book: without a page its scores, and book.html; a page with the words that each word looked at.

    A book that is still being translated can be looked at, too, as far as it goes.
    """
    from rich.console import Console

    from regard._errors import ArgumentError
    from regard.records import Book
    from regard.viewer import book_summary, num_pages, page_text, write_overview, write_page

    opened = Book.open(folder)
    console = Console(highlight=False)
    if text and page is None:
        raise ArgumentError("--text shows one page, got none; name it: --page N.")
    if every and page is not None:
        raise ArgumentError(f"Either one page or all can be made, got --page {page} and --all; leave one out.")
    if text and page is not None:
        console.print(page_text(opened, page, page_len=page_len))
        return
    if page is not None:
        typer.echo(write_page(opened, page, page_len=page_len))
        return
    for number in range(1, num_pages(opened, page_len) + 1) if every else ():
        write_page(opened, number, page_len=page_len)
    path = write_overview(opened, page_len=page_len)
    console.print(book_summary(opened))
    console.print(f"\n{path}")
