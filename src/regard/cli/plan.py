"""`regard plan`: what a step will need before it is run, and the longest sequence and the largest batch that fit."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.cli.options import Settings

if TYPE_CHECKING:
    from regard.cost import Plan, Workload

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard plan demo --memory 8GB")(plan)


# More than eight arguments: each is an option of the command.
def plan(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|MODEL", help="A recipe, or a model as `regard profile` takes it; its weights are not read."
        ),
    ],
    length: Annotated[int | None, typer.Option("--len", min=1, help="Tokens; 512, or the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences; 1, or the recipe's.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Plan a step of training; a recipe always trains.")] = False,
    precision: Annotated[str | None, typer.Option(help="float32, or bfloat16 by autocast.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Find the longest sequence and largest batch in it, as 8GB."),
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="Measure two short steps and estimate the time.")] = False,
    settings: Settings = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what a step will need: operations, parameters, memory at its peak.

    Nothing is computed, unless --time is given. Exits with 1 if the step does not fit into --memory.
    """
    from regard.cli.sizes import bytes_of

    limit = None if memory is None else bytes_of(memory)
    changes: dict[str, Any] = {"length": length, "batch": batch, "precision": precision, "trains": train or None}
    workload = replace(
        _workload(target, settings or [], train, weights=time),
        **{name: value for name, value in changes.items() if value is not None},
    )
    found = _planned(workload, limit, time)
    if json:
        _print_json(found.to_dict())
    else:
        from regard.cli.plan_text import plan_lines

        for line in plan_lines(found):
            typer.echo(line)
    if found.fits is False:
        raise typer.Exit(1)


def _workload(target: str, settings: list[str], train: bool, *, weights: bool) -> "Workload":
    from regard._errors import ArgumentError
    from regard.cli.opened import open_model
    from regard.cost import Workload
    from regard.train import RECIPES

    if target in RECIPES:
        from regard.cli.recipe_workload import workload_of_recipe

        return workload_of_recipe(target, settings)
    if settings:
        raise ArgumentError(f"--set changes a recipe, got the model {target!r}; name one of {', '.join(RECIPES)}.")
    opened = open_model(target, weights=weights)
    return Workload(model=opened.model, inputs=opened.inputs(train), name=opened.name, trains=train)


def _planned(workload: "Workload", limit: int | None, time: bool) -> "Plan":
    from regard.cost import estimated, is_recurrent, largest_that_fits, max_length
    from regard.cost import plan as planned

    found = planned(workload)
    if time:
        found = replace(found, time=estimated(found))
    if limit is None:
        return found
    most = largest_that_fits(workload, limit, vary="batch")
    found = replace(found, limit_bytes=limit, most=most)
    if is_recurrent(workload.model):
        note = "The longest sequence is not searched: a recurrent network's memory grows in proportion to the length."
        return replace(found, notes=(*found.notes, note))
    if workload.fixed_length:
        return found
    longest = largest_that_fits(workload, limit, vary="length", most=max_length(workload.model))
    return replace(found, longest=longest)


def _print_json(content: object) -> None:
    import orjson

    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
