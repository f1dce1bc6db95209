"""`regard predict`: ask a trained classifier or tagger."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.options import RunFolder

if TYPE_CHECKING:
    from regard.records import Run

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog='Example: regard predict runs/demo "oil prices rose after opec met in vienna"')(predict)


def predict(
    run: RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts; none reads lines from stdin.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each text; taggers show one tag.")] = 3,
) -> None:
    """Ask the model of a run of each text: a classifier says the classes, a tagger the tag of each word.

    A classifier's line has the likeliest classes with their probabilities. A tagger prints one word a line with its
    tag, and a blank line between texts; one that restores case and punctuation first the text that it makes of them.
    """
    from regard._errors import ArgumentError
    from regard.records import Run

    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given or not all(text.strip() for text in given):
        raise ArgumentError("Each text must hold a word, got an empty one; give texts or lines on stdin.")
    # Bytes that are no UTF-8 come from a command line as lone surrogates, which no tokenizer takes.
    if broken := next((text for text in given if any("\ud800" <= letter <= "\udfff" for letter in text)), None):
        raise ArgumentError(f"Each text must be UTF-8, got other bytes in {broken!r}; set the terminal to UTF-8.")
    opened = Run.open(run)
    if opened.info.task == "token tagging":
        _tag(opened, given)
    else:
        _classify(opened, given, top)


def _classify(run: "Run", texts: list[str], top: int) -> None:
    from regard.train import Classifier

    classifier = Classifier.open(run)
    for probabilities in classifier.predict(texts):
        best = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
        typer.echo("  ".join(f"{label} {probability:.3f}" for label, probability in best))


def _tag(run: "Run", texts: list[str]) -> None:
    from regard.data import restored
    from regard.train import Tagger

    tagger = Tagger.open(run)
    for number, pairs in enumerate(tagger.tag(texts)):
        if number:
            typer.echo()
        if tagger.restores:
            typer.echo(restored([word for word, _ in pairs], [tag for _, tag in pairs]))
        for word, tag in pairs:
            typer.echo(f"{word}\t{tag}")
