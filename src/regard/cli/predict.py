"""`regard predict`: ask a trained classifier of texts, or a model of numeric frames."""

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
    top: Annotated[int, typer.Option(min=1, help="How many classes to show for each row.")] = 3,
) -> None:
    """Ask the model of a run; one line a text or sequence: classes with their probabilities, or a number."""
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
    else:
        _predict_texts(opened, texts, top)


def _predict_texts(run: "Run", texts: list[str] | None, top: int) -> None:
    from regard._errors import ArgumentError
    from regard.train import Classifier

    given = texts or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not given or not all(text.strip() for text in given):
        raise ArgumentError("Each text to classify must hold a word, got an empty one; give texts or lines on stdin.")
    for probabilities in Classifier.open(run).predict(given):
        typer.echo(_likeliest(probabilities, top))


def _predict_sequences(run: "Run", file: Path, top: int) -> None:
    from regard.train import SequencePredictor

    predictor = SequencePredictor.open(run)
    sequences = predictor.read(file)
    for name, answer in zip(sequences.names, predictor.predict(sequences.frames), strict=True):
        typer.echo(f"{name}  {_likeliest(answer, top) if isinstance(answer, dict) else f'{answer:.6g}'}")


def _likeliest(probabilities: dict[str, float], top: int) -> str:
    best = sorted(probabilities.items(), key=lambda item: -item[1])[:top]
    return "  ".join(f"{label} {probability:.3f}" for label, probability in best)
