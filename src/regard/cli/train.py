"""`regard train`: the same job on a person's own data; `regard recipes`: what can be set."""

from pathlib import Path
from typing import Annotated

import typer

from regard.cli.options import Fresh, Settings

__all__ = ["register"]

_TRAIN_EXAMPLE = (
    "Example: regard train text-classifier --set data.path=mine.csv --set data.text=body --set data.label=topic"
)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(epilog=_TRAIN_EXAMPLE)(train)
    app.command(epilog="Example: regard recipes demo")(recipes)


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; `regard recipes` lists them.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/RECIPE.")] = None,
    fresh: Fresh = False,
    ray: Annotated[
        int | None, typer.Option(metavar="N", help="Train on N workers of a Ray cluster (extra ray); see docs.")
    ] = None,
) -> None:
    """Train a recipe on your data: audit, train, evaluate, diagnose, judge readiness, report.

    The data may be a CSV, TSV, JSONL or Parquet file (data.path, data.text, data.label, optionally data.test_path),
    or a set of the Hugging Face hub (data.source=hub, data.name).
    """
    from regard.train import configure

    config, folder = configure(recipe, settings or []), out or Path("runs") / recipe
    if ray is not None:
        from regard.cli.cluster import run_on_ray

        return run_on_ray(config, folder, num_workers=ray, fresh=fresh)
    from regard.cli.job import run_job

    return run_job(config, folder, fresh=fresh)


def recipes(
    recipe: Annotated[str | None, typer.Argument(help="Show every setting of this recipe.")] = None,
    settings: Settings = None,
) -> None:
    """List the recipes, or print one as JSON with every setting that --set can change."""
    import json

    from regard.train import RECIPES, configure

    if recipe is None:
        for name, known in RECIPES.items():
            typer.echo(f"{name:16} {known.says}")
        return
    found = RECIPES.get(recipe)
    needed = [found.needs] if found is not None and found.needs is not None and not settings else []
    typer.echo(json.dumps(configure(recipe, [*needed, *(settings or [])]).to_dict(), indent=2))
