"""`regard demo`: the main job on real news."""

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import Fresh, Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard demo --fast --out runs/first")(demo)


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="A small setting of the same data, about a minute.")] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/demo or runs/demo-fast.")] = None,
    fresh: Fresh = False,
    settings: Settings = None,
) -> None:
    """Fine-tune a real BERT (MiniLM) on real news (Reuters R8), watching every head; ends with a verdict and a report.

    Audits the data, trains, evaluates beside a tuned linear baseline, diagnoses, judges readiness and writes
    report.html. Interrupt it at any time: the same command goes on. A finished run is shown at once.
    """
    from regard.cli.job import run_job
    from regard.train import configure

    recipe = "demo-fast" if fast else "demo"
    run_job(configure(recipe, settings or []), out or Path("runs") / recipe, fresh=fresh)
