"""`regard compare`: several architectures on one task, one table with intervals."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard._errors import ArgumentError, TrainingError
from regard.cli.options import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from regard.train.comparing.convergence import Target
    from regard.train.comparing.plan import PlannedRun

__all__ = ["register"]

_INTERRUPTED = 130
_MODELS = "transformer,lstm,linear"
_EXAMPLE = (
    "Example: regard compare text-classifier --models transformer,lstm,linear --set data.path=mine.csv "
    "--set data.text=body --set data.label=topic --set lstm:optim.lr=2e-3"
)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog=_EXAMPLE)(compare)


def compare(
    recipe: Annotated[
        str, typer.Argument(help="Recipe of a classifier, tagger, language model, translator or forecaster.")
    ],
    models: Annotated[
        str,
        typer.Option(help="transformer, lstm, gru; linear adds the baselines. The first is held against the others."),
    ] = _MODELS,
    seeds: Annotated[str, typer.Option(help="Three seeds or more, separated by commas.")] = "0,1,2",
    settings: Settings = None,
    vary: Annotated[
        str | None,
        typer.Option(help="Compare one architecture at several values of a setting, as in data.window=64,128,256."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Tell how soon a metric of the validation set gets there, as in accuracy=0.9 or loss=1.6; look "
            "closely with --set optim.validate_every=20."
        ),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(
            help="An earlier comparison.json with the same target: exit status 1 if it now takes 20 % more steps."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; default runs/compare-RECIPE.")] = None,
) -> None:
    """Train several architectures with the same parameter count on one split and tell what may be claimed.

    Each run is an ordinary run folder, trained by a process of its own; stopped, the same command goes on. A setting of
    one model names it first, as in --set lstm:optim.lr=2e-3.
    """
    from rich.console import Console

    from regard.records import Run, write_bytes, write_json
    from regard.train.comparing.convergence import Target, check_before, draw_convergence
    from regard.train.comparing.outcome import read_outcome
    from regard.train.comparing.plan import BASELINES, plan_comparison
    from regard.train.comparing.summary import summarise
    from regard.train.comparing.telling import markdown, sentences

    if vary is not None and models == _MODELS:  # not chosen
        models = "transformer,linear"
    names = [name.strip() for name in models.split(",") if name.strip()]
    goal = None if target is None else Target.parse(target)
    earlier = None if before is None else _earlier(before, goal)
    plan = plan_comparison(recipe, names, _numbers(seeds), settings or [], vary=vary)
    if goal is not None:
        goal.check(plan[0].config.task)
        if earlier is not None:
            check_before(earlier, goal, list(dict.fromkeys(one.model for one in plan)))
    folder = out or Path("runs") / f"compare-{recipe}"
    console = Console(highlight=False)
    for number, planned in enumerate(plan, start=1):
        _train(console, planned, folder / planned.name, f"{number}/{len(plan)}")
    outcomes = [read_outcome(Run.open(folder / one.name), model=one.model, seed=one.seed) for one in plan]
    content = summarise(outcomes, baselines=BASELINES in names, varied=vary is not None, target=goal, before=earlier)
    write_json(folder / "comparison.json", content)
    write_bytes(folder / "comparison.md", markdown(content).encode())
    for one in plan:
        Run.open(folder / one.name).write("comparison", content)
    _show(console, content)
    for sentence in sentences(content):
        console.print(f"· {sentence}", soft_wrap=True, markup=False)
    written = [folder / "comparison.json", folder / "comparison.md"]
    if goal is not None:
        written.append(folder / "convergence.svg")
        drawn = draw_convergence(
            content["convergence"], title=f"{content['task'].capitalize()}: validation {goal.metric}"
        )
        write_bytes(written[-1], drawn.encode())
    console.print(f"\nWritten to {', '.join(map(str, written[:-1]))} and {written[-1]}.", soft_wrap=True)
    if goal is not None and any(one["slower"] for one in content["convergence"]["before"]):
        raise typer.Exit(1)


def _earlier(path: Path, goal: "Target | None") -> dict[str, Any]:
    """Read the way to the target of an earlier comparison, before anything is trained."""
    if goal is None:
        raise ArgumentError("--before needs the --target that both comparisons should reach, got none.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(
            f"--before must be the comparison.json of an earlier comparison, got {path}: {error}."
        ) from error
    if not isinstance(found, dict) or "convergence" not in found:
        raise ArgumentError(f"--before must be a comparison.json that was made with --target, got {path}.")
    way: dict[str, Any] = found["convergence"]
    return way


def _numbers(seeds: str) -> list[int]:
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise ArgumentError(f"--seeds takes whole numbers separated by commas, got {seeds!r}.") from error


def _train(console: "Console", planned: "PlannedRun", folder: Path, number: str) -> None:
    """Run ``regard train`` in a process of its own, whose memory is its own too; a finished run is left alone."""
    from regard.records import Run

    finished = (folder / "run.json").exists() and Run.open(folder).finished
    if finished and Run.open(folder).info.config == planned.config.to_dict():
        console.print(f"{number} {planned.name}: finished before", soft_wrap=True)
        return
    console.print(f"{number} {planned.name}", style="bold", soft_wrap=True)
    chosen = [part for setting in planned.settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "regard", "train", planned.recipe, *chosen, "--out", str(folder)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{planned.name}.log").open("ab") as log:
        code = _finished(command, log)
    if code < 0 or code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        last = (folder.parent / f"{planned.name}.log").read_text(encoding="utf-8", errors="replace").strip()
        said = last.splitlines()[-1] if last else f"exit status {code}"
        raise TrainingError(f"{planned.name} must train to its end, got: {said}")


def _finished(command: list[str], log: Any) -> int:
    """Run ``command`` and return its exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()  # it writes a checkpoint, from which the same command goes on
        process.wait()
        raise


def _show(console: "Console", content: dict[str, Any]) -> None:
    from regard.train.comparing.convergence import convergence_table
    from regard.train.comparing.telling import table

    _show_table(console, f"{content['task']}, {content['num_rows']:,} {content['unit']}", *table(content))
    if "convergence" in content:
        way = content["convergence"]
        goal = f"{way['metric']} {way['target']:g}"
        _show_table(console, f"\nThe way to a validation {goal}", *convergence_table(way))


def _show_table(console: "Console", title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print one row for each figure, its interval below it: a table as wide as all of them fits no screen.

    Models that do not fit beside each other either follow in another table below, so that no number is broken.
    """
    from rich.table import Table

    cells = [[cell.replace(" (", "\n").removesuffix(")") for cell in row] for row in rows]
    for number, together in enumerate(_side_by_side(console.width, headings, cells)):
        if number:
            console.print()
        drawn = Table(title=title if number == 0 else None, title_justify="left", box=None, padding=(0, 1))
        drawn.add_column("", no_wrap=True)
        for row in together:
            drawn.add_column(row[0], justify="right", overflow="fold")
        for place, heading in enumerate(headings[1:], start=1):
            if any(row[place] for row in together):
                drawn.add_row(heading, *(row[place] for row in together))
        console.print(drawn)


def _side_by_side(room: int, headings: list[str], rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield as many of the models at a time as fit into ``room`` characters, one at least."""
    first = left = room - max(map(len, headings[1:])) - 2
    together: list[list[str]] = []
    for row in rows:
        needed = 2 + max(len(line) for cell in (row[0].replace(" ", "\n"), *row[1:]) for line in cell.split("\n"))
        if together and needed > left:
            yield together
            together, left = [], first
        together.append(row)
        left -= needed
    yield together
