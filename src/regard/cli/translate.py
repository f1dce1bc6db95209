"""`regard translate`: ask a trained translator, for lines or for a whole book."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.options import RunFolder

if TYPE_CHECKING:
    from regard.data import BookColumns
    from regard.records import Run
    from regard.train import Translator

__all__ = ["register"]

_BOOK = "Book (--book)"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog='Example: regard translate runs/translator "A dog runs across the street."   '
        "Example: regard translate runs/translator --book novel.txt --out books/novel"
    )(translate)


def translate(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts; none reads lines from stdin.")
    ] = None,
    book: Annotated[
        Path | None, typer.Option(help="Translate this whole file: a table, or plain text (.txt, .md).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the book; again goes on.", rich_help_panel=_BOOK)] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Only the documents that training held out.", rich_help_panel=_BOOK)
    ] = False,
    source_column: Annotated[
        str | None, typer.Option(help="Column that is read; default the recipe's.", rich_help_panel=_BOOK)
    ] = None,
    target_column: Annotated[
        str | None,
        typer.Option(help="Column to compare with; default the recipe's, '' for none.", rich_help_panel=_BOOK),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(help="Column that names documents; default the recipe's, '' for none.", rich_help_panel=_BOOK),
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, help="Beams; default the recipe's.", rich_help_panel=_BOOK)
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(min=0, help="Decoder layer to align by; default the last but one.", rich_help_panel=_BOOK),
    ] = None,
) -> None:
    """Translate texts with the model of a run; one line each, an empty line stays empty.

    With --book, translate a whole file into a folder: segment by segment, resumable, with where the model looked.
    """
    from regard.records import Run
    from regard.train import Translator

    if book is None:
        _refuse_alone(out, held_out, source_column, target_column, document_column, beams, layer)
        _translate_lines(run, texts)
        return
    opened = Run.open(run)
    translator = Translator.open(opened)
    if beams is not None:
        translator.writing = translator.writing.model_copy(update={"beams": beams})
    columns = _columns(translator, book, source_column, target_column, document_column)
    documents = _held_out(opened) if held_out else ()
    _translate_book(opened, translator, _checked(book, texts), columns, documents, _folder(out), layer)


def _translate_lines(run: Path, texts: list[str] | None) -> None:
    from regard._errors import ArgumentError
    from regard.records import Run
    from regard.train import Translator

    given = texts or [line.rstrip("\r\n") for line in sys.stdin]
    if not given:
        raise ArgumentError("There must be a text to translate, got none; give texts or lines on stdin.")
    translator = Translator.open(Run.open(run))
    asked = [text for text in given if text.strip()]
    written = iter(translator.translate(asked))
    for text in given:
        typer.echo(next(written).replace("\n", " ") if text.strip() else "")


def _translate_book(
    run: "Run",
    translator: "Translator",
    path: Path,
    columns: "BookColumns | None",
    documents: tuple[str, ...],
    folder: Path,
    layer: int | None,
) -> None:
    from rich.console import Console

    from regard.cli.console import ConsoleProgress
    from regard.train import BookSource, judge_book, translate_book
    from regard.viewer import book_summary, write_overview

    console = Console(highlight=False)
    progress = ConsoleProgress(console)
    source = BookSource(path=path, columns=columns, documents=documents)
    book = translate_book(translator, source, folder, model_folder=run.folder / "model", layer=layer, progress=progress)
    if "totals" not in book.info:
        progress.say("Comparing with the translation by a person …")
        judge_book(book)
    page = write_overview(book)
    console.print(book_summary(book))
    console.print(f"\n{page}\nregard book {folder} --page 1")


def _refuse_alone(*options: object) -> None:
    from regard._errors import ArgumentError

    if any(option not in (None, False) for option in options):
        raise ArgumentError("These options are for a book, got no --book; name the file: --book FILE.")


def _checked(book: Path, texts: list[str] | None) -> Path:
    from regard._errors import ArgumentError

    if texts:
        raise ArgumentError(
            f"Either texts or a book can be translated, got both {texts[0]!r} and {book}; leave one out."
        )
    return book


def _folder(out: Path | None) -> Path:
    from regard._errors import ArgumentError

    if out is None:
        raise ArgumentError("A book needs a folder to be written to, got none; name it: --out FOLDER.")
    return out


def _columns(
    translator: "Translator", book: Path, source: str | None, target: str | None, document: str | None
) -> "BookColumns | None":
    """Return the columns of a table, those of the recipe unless others are named; None for plain text."""
    from regard._errors import ArgumentError
    from regard.data import BookColumns, is_plain_text

    if is_plain_text(book):
        if any(name is not None for name in (source, target, document)):
            raise ArgumentError(f"Plain text has no columns, got some for {book.name}; leave them out.")
        return None
    data = translator.data
    if data.source != "table" and source is None:
        raise ArgumentError(
            f"A table needs the column that is read, got none for {book.name}, as the run was trained on files "
            f"of {data.source}; name it with --source-column."
        )
    named = document if document is not None else data.document_column
    return BookColumns(
        source=source or data.source_column,
        target=(target if target is not None else data.target_column if data.source == "table" else None) or None,
        document=named or None,
        pattern=data.document_pattern if named and named == data.document_column else None,
        header=data.header,
    )


def _held_out(run: "Run") -> tuple[str, ...]:
    from regard._errors import ArgumentError

    documents = run.read("split")["test"].get("documents")
    if not documents:
        raise ArgumentError(
            f"The run must have held out documents, got one that did not in {run.folder}; train with "
            "data.document_column, or leave --held-out out."
        )
    return tuple(documents)
