"""`regard profile`: where the time of a model goes, what may make it faster, and what that brought."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from regard.cost import Outcome, Profile, Scaling, Timing

__all__ = ["register"]

_LENGTHS = (128, 512, 2048, 8192)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard profile minilm --len 256 --batch 4")(profile)


# More than eight arguments: each is an option of the command.
def profile(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A folder with a model, a run folder, minilm, lstm:WIDTH, or an import path package.module:factory.",
        ),
    ],
    length: Annotated[int, typer.Option("--len", min=1, help="Tokens of a sequence.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Sequences.")] = 1,
    train: Annotated[bool, typer.Option("--train", help="Profile a step of training, not a forward.")] = False,
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 by autocast.")] = "float32",
    rounds: Annotated[int, typer.Option(min=3, help="How often everything is measured at most.")] = 7,
    apply: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Try a remedy and measure again; may be repeated.")
    ] = None,
    threads: Annotated[bool, typer.Option("--threads", help="Also measure with 1, 2, … threads.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Only count, over lengths: how each part grows, and where one overtakes.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(metavar="TARGET", help="With --scaling: another model to hold this one against.")
    ] = None,
    curves: Annotated[
        bool, typer.Option("--curves", help="Only measure one layer's attention, by chunk size and number of threads.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --scaling or --curves: draw the curves.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Measure where the time of a model goes, part by part, and say what may make it faster.

    A remedy is applied only if it is asked for by name, is measured beside the model as it is, and is taken back.
    """
    _check_curves(scaling=scaling, curves=curves, against=against, svg=svg)
    if curves:
        _check_alone({"--train": train, "--apply": apply, "--threads": threads, "--precision": precision != "float32"})
        _attention_curves(target, svg, batch=batch, length=length, rounds=rounds, json=json)
        return
    if scaling:
        _scale(target, against, svg, train=train, json=json)
        return
    from regard.cli.opened import open_model
    from regard.cost import Workload
    from regard.cost import profile as measure

    opened = open_model(target)
    workload = Workload(
        model=opened.model,
        inputs=opened.inputs(train),
        batch=batch,
        length=length,
        trains=train,
        precision=precision,  # type: ignore[arg-type]  # refused by Workload if it is neither
        name=opened.name,
    )
    _check_names(apply or [])
    found = measure(workload, rounds=rounds)
    outcomes = _outcomes(found, apply or [], rounds)
    curve = _thread_curve(workload, rounds) if threads else {}
    if json:
        _print_json(_content(found, outcomes, curve))
    else:
        _print(found, outcomes, curve)


def _check_curves(*, scaling: bool, curves: bool, against: str | None, svg: Path | None) -> None:
    from regard._errors import ArgumentError

    if scaling and curves:
        raise ArgumentError("--scaling counts and --curves measures, got both; give one of them.")
    if against and not scaling:
        raise ArgumentError("--against belongs to --scaling; add it.")
    if svg and not (scaling or curves):
        raise ArgumentError("--svg belongs to --scaling or --curves; add one of them.")


def _check_alone(given: dict[str, object]) -> None:
    """Refuse options that --curves would not heed."""
    from regard._errors import ArgumentError

    idle = [name for name, value in given.items() if value]
    if idle:
        raise ArgumentError(f"--curves measures a forward in float32 by itself, got {idle[0]} as well; leave it out.")


def _attention_curves(target: str, svg: Path | None, *, batch: int, length: int, rounds: int, json: bool) -> None:
    from regard._errors import ArgumentError
    from regard.cli.curves_text import curves_drawing, curves_lines
    from regard.cli.opened import open_model
    from regard.cost import attention_curves, count

    opened = open_model(target, weights=False)
    positional, named = tuple(opened.inputs(False)(batch, length))
    calls = count(opened.model.eval(), *positional, **named).attention
    if not calls:
        raise ArgumentError(f"--curves needs a model with attention, got {opened.name}, which calls none.")
    found = attention_curves(max(calls, key=lambda call: call.computed), rounds=rounds)
    if svg is not None:
        svg.write_text(curves_drawing(found, opened.name), encoding="utf-8")
    if json:
        _print_json({"model": opened.name, "batch": batch, "length": length, **found.to_dict()})
        return
    for line in curves_lines(found, opened.name):
        typer.echo(line)


def _check_names(names: list[str]) -> None:
    """Refuse an unknown remedy before a minute of measuring."""
    from regard._errors import ArgumentError
    from regard.cost import remedies

    unknown = [name for name in names if name not in remedies()]
    if unknown:
        raise ArgumentError(f"--apply must be one of {', '.join(remedies())}, got {unknown[0]!r}.")


def _outcomes(found: "Profile", names: list[str], rounds: int) -> "list[Outcome]":
    from regard.cost import try_remedy

    return [try_remedy(found, name, rounds=rounds) for name in names]


def _thread_curve(workload: Any, rounds: int) -> "dict[int, Timing]":
    from regard.cost import thread_curve

    return thread_curve(workload, rounds=rounds)


def _content(found: "Profile", outcomes: "list[Outcome]", curve: "dict[int, Timing]") -> dict[str, Any]:
    from regard.cost import advice, notes

    return {
        **found.to_dict(),
        "advice": [one.to_dict() for one in advice(found)],
        "notes": notes(found),
        "applied": [one.to_dict() for one in outcomes],
        "threads_curve": {str(number): timing.to_dict() for number, timing in curve.items()},
    }


def _print(found: "Profile", outcomes: "list[Outcome]", curve: "dict[int, Timing]") -> None:
    from regard.cli.profile_text import curve_lines, outcome_lines, profile_lines

    for line in [*profile_lines(found), *outcome_lines(outcomes), *curve_lines(curve)]:
        typer.echo(line)


def _scale(target: str, against: str | None, svg: Path | None, *, train: bool, json: bool) -> None:
    from regard.cli.profile_text import scaling_lines
    from regard.cost import crossover

    found = [_counted(text, train) for text in (target, against) if text is not None]
    crossing = crossover(found[0], found[1]) if len(found) > 1 else None
    if svg is not None:
        svg.write_text(_drawn(found, crossing), encoding="utf-8")
    if json:
        _print_json({"models": [one.to_dict() for one in found], "crossover": crossing})
        return
    for line in scaling_lines(found, crossing):
        typer.echo(line)


def _counted(text: str, train: bool) -> "Scaling":
    from regard.cli.opened import open_model
    from regard.cost import max_length, scaling

    opened = open_model(text, weights=False)
    inputs, limit = opened.inputs(train), max_length(opened.model)
    lengths = _LENGTHS if limit is None or limit >= _LENGTHS[-1] else [max(1, limit >> shift) for shift in (3, 2, 1, 0)]
    return scaling(
        opened.model, lambda length: tuple(inputs(1, length)), lengths=lengths, name=opened.name, backward=train
    )


def _drawn(found: "list[Scaling]", crossing: float | None) -> str:
    from regard.cost import Curve, Mark, draw_curves
    from regard.cost.scaling import ALL

    curves = [
        Curve(name=f"{one.name}: {part}" if len(found) > 1 else str(part), x=one.lengths, y=values)
        for one in found
        for part, values in one.flops.items()
        if len(found) == 1 or part == ALL
    ]
    marks = [] if crossing is None else [Mark(x=crossing, text=f"more than {found[1].name} from {crossing:,.0f} on")]
    return draw_curves(curves, title="Cost against length", y_label="operations in products", marks=marks)


def _print_json(content: object) -> None:
    import orjson

    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
