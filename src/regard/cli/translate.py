"""`regard translate`: ask a trained translator."""

import sys
from typing import Annotated

import typer

from regard.cli.options import RunFolder

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog='Example: regard translate runs/translator "A dog runs across the street."')(translate)


def translate(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts; none reads lines from stdin.")
    ] = None,
) -> None:
    """Translate texts with the model of a run; one line each, an empty line stays empty."""
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
