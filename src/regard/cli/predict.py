"""`regard predict`: ask a trained classifier."""

import sys
from typing import Annotated

import typer

from regard.cli.options import RunFolder

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog='Example: regard predict runs/demo "oil prices rose after opec met in vienna"')(predict)


def predict(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts; none reads lines from stdin.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each text.")] = 3,
) -> None:
    """Classify texts with the model of a run; one line each: the classes with their probabilities."""
    from regard._errors import ArgumentError
    from regard.records import Run
    from regard.train import Classifier

    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given or not all(text.strip() for text in given):
        raise ArgumentError("Each text to classify must hold a word, got an empty one; give texts or lines on stdin.")
    classifier = Classifier.open(Run.open(run))
    for probabilities in classifier.predict(given):
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
        typer.echo("  ".join(f"{label} {probability:.3f}" for label, probability in best))
