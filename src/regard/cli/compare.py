"""`regard compare`: several architectures on one task, one table with intervals."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard._errors import ArgumentError, TrainingError
from regard.cli.options import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from regard.train.comparing.plan import PlannedRun

__all__ = ["register"]

_INTERRUPTED = 130
_EXAMPLE = (
    "Example: regard compare text-classifier --models transformer,lstm,linear --set data.path=mine.csv "
    "--set data.text=body --set data.label=topic --set lstm:optim.lr=2e-3"
)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog=_EXAMPLE)(compare)


def compare(
    recipe: Annotated[str, typer.Argument(help="Recipe of a classifier, a language model or a forecaster.")],
    models: Annotated[
        str,
        typer.Option(help="transformer, lstm, gru; linear adds the baselines. The first is held against the others."),
    ] = "transformer,lstm,linear",
    seeds: Annotated[str, typer.Option(help="Three seeds or more, separated by commas.")] = "0,1,2",
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the comparison; default runs/compare-RECIPE.")] = None,
) -> None:
    """Train several architectures with the same parameter count on one split and tell what may be claimed.

    Each run is an ordinary run folder, trained by a process of its own; stopped, the same command goes on. A setting of
    one model names it first, as in --set lstm:optim.lr=2e-3.
    """
    from rich.console import Console

    from regard.records import Run, write_bytes, write_json
    from regard.train.comparing.outcome import read_outcome
    from regard.train.comparing.plan import BASELINES, plan_comparison
    from regard.train.comparing.summary import summarise
    from regard.train.comparing.telling import markdown, sentences

    names = [name.strip() for name in models.split(",") if name.strip()]
    plan = plan_comparison(recipe, names, _numbers(seeds), settings or [])
    folder = out or Path("runs") / f"compare-{recipe}"
    console = Console(highlight=False)
    for number, planned in enumerate(plan, start=1):
        _train(console, planned, folder / planned.name, f"{number}/{len(plan)}")
    outcomes = [read_outcome(Run.open(folder / one.name), model=one.model, seed=one.seed) for one in plan]
    content = summarise(outcomes, baselines=BASELINES in names)
    write_json(folder / "comparison.json", content)
    write_bytes(folder / "comparison.md", markdown(content).encode())
    for one in plan:
        Run.open(folder / one.name).write("comparison", content)
    _show(console, content)
    for sentence in sentences(content):
        console.print(f"· {sentence}", soft_wrap=True, markup=False)
    console.print(f"\nWritten to {folder / 'comparison.json'} and {folder / 'comparison.md'}.", soft_wrap=True)


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
    from rich.table import Table

    from regard.train.comparing.telling import table

    headings, rows = table(content)
    # One row for each figure, its interval below it: a table as wide as all of them fits no screen.
    drawn = Table(
        title=f"{content['task']}, {content['num_rows']:,} {content['unit']}",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )
    drawn.add_column("")
    for row in rows:
        drawn.add_column(row[0], justify="right", overflow="fold")
    for number, heading in enumerate(headings[1:], start=1):
        drawn.add_row(heading, *(row[number].replace(" (", "\n").removesuffix(")") for row in rows))
    console.print(drawn)
