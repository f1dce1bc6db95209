"""`regard predict`: ask a trained classifier or tagger of texts, or a model of numeric frames."""

import sys
from pathlib import Path
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
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of sequences of frames, read as in training.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each row; taggers show one tag.")] = 3,
) -> None:
    """Ask the model of a run: a classifier says the classes, a tagger the tags of words, others class or number.

    A classifier's line has the likeliest classes with their probabilities. A tagger prints one word a line with its
    tag, and a blank line between texts; one that restores case and punctuation first the text that it makes of them.
    A model of numeric frames reads a file, and says a class or a number of each sequence.
    """
    from regard._errors import ArgumentError
    from regard.records import Run
    from regard.train.frames.config import CLASSIFICATION, REGRESSION

    opened = Run.open(run)
    if opened.info.task in (CLASSIFICATION, REGRESSION):
        if file is None or texts:
            raise ArgumentError(
                f"The model in {run} reads sequences of frames; give them as --file FILE, and no texts."
            )
        _predict_sequences(opened, file, top)
    elif file is not None:
        raise ArgumentError(
            f"--file is for models of frames, got a run of {opened.info.task}; give texts, or lines on stdin."
        )
    elif opened.info.task == "token tagging":
        _tag(opened, _given(texts))
    else:
        _classify(opened, _given(texts), top)


def _given(texts: list[str] | None) -> list[str]:
    from regard._errors import ArgumentError

    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given or not all(text.strip() for text in given):
        raise ArgumentError("Each text must hold a word, got an empty one; give texts or lines on stdin.")
    # Bytes that are no UTF-8 come from a command line as lone surrogates, which no tokenizer takes.
    if broken := next((text for text in given if any("\ud800" <= letter <= "\udfff" for letter in text)), None):
        raise ArgumentError(f"Each text must be UTF-8, got other bytes in {broken!r}; set the terminal to UTF-8.")
    return given


def _classify(run: "Run", texts: list[str], top: int) -> None:
    from regard.train import Classifier

    for probabilities in Classifier.open(run).predict(texts):
        typer.echo(_likeliest(probabilities, top))


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


def _predict_sequences(run: "Run", file: Path, top: int) -> None:
    from regard.train import SequencePredictor

    predictor = SequencePredictor.open(run)
    sequences = predictor.read(file)
    for name, answer in zip(sequences.names, predictor.predict(sequences.frames), strict=True):
        typer.echo(f"{name}  {_likeliest(answer, top) if isinstance(answer, dict) else f'{answer:.6g}'}")


def _likeliest(probabilities: dict[str, float], top: int) -> str:
    best = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
    return "  ".join(f"{label} {probability:.3f}" for label, probability in best)
