"""`regard generate`: let a trained language model write on."""

from typing import Annotated

import typer

from regard.cli.options import RunFolder

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog='Example: regard generate runs/language-model "ROMEO:" --tokens 300 --temperature 0.8')(generate)


def generate(
    run: RunFolder,
    beginning: Annotated[str, typer.Argument(metavar="BEGINNING", help="What the model goes on from.")],
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Below 1 likely tokens become likelier; 0 takes the likeliest.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from so many of the likeliest tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Draw from the likeliest that reach this probability.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
) -> None:
    """Write on from BEGINNING with the language model of a run; beginning and continuation are printed."""
    from regard.models import Sampling
    from regard.records import Run
    from regard.train import Writer

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed) if temperature else None
    writer = Writer.open(Run.open(run))
    typer.echo(beginning + writer.write(beginning, max_new_tokens=tokens, sampling=sampling))
