"""The main job, stage by stage: data, train, evaluate, diagnose, check, ready, report."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from regard._errors import RecordError
from regard.cli.console import ConsoleProgress, say
from regard.cli.process import keep_freed_memory
from regard.diagnose import diagnose
from regard.readiness import judge, verdict
from regard.records import LOCK_NAME, Run, Status, one_writer
from regard.train import JobConfig, Ranks, join_ranks, make_job
from regard.viewer import summary, write_report

__all__ = ["run_job"]


def run_job(config: JobConfig, folder: Path, *, fresh: bool = False) -> None:
    """Run every stage of ``config`` in ``folder``, or go on where an earlier process stopped.

    Started by ``torchrun``, all processes train; the first one alone writes, evaluates and judges.

    Args:
        config: the recipe.
        folder: the run folder; a finished run in it is shown, an unfinished one is continued.
        fresh: delete the run that is in the folder first.

    Raises:
        RecordError: the folder holds a run of another config, or something that is no run.
    """
    with join_ranks() as ranks:
        if ranks.is_first:
            _run_job(config, folder, fresh, ranks)
        else:
            _take_part(config, ranks)


def _take_part(config: JobConfig, ranks: Ranks) -> None:
    """Train along with the first rank; nothing of it is kept."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if ranks.from_first(None):
            job = make_job(config, Run.create(folder, recipe=config.recipe, task=config.task))
            job.prepare()
            job.train()


def _run_job(config: JobConfig, folder: Path, fresh: bool, ranks: Ranks) -> None:
    console = Console(highlight=False)
    with one_writer(folder, what="run", tell=partial(say, console)):
        _run_alone(console, config, folder, fresh, ranks)


def _run_alone(console: Console, config: JobConfig, folder: Path, fresh: bool, ranks: Ranks) -> None:
    run = _open(config, folder, fresh)
    ranks.from_first(not run.finished and next(run.events("trained"), None) is None)
    if run.finished:
        console.print(f"{folder} holds this run, finished; --fresh trains it again.\n")
        if not (folder / "report.html").exists():
            _conclude(console, run)
        console.print(summary(run))
        return
    keep_freed_memory()
    run.update(status=Status.RUNNING, message=None)
    progress = ConsoleProgress(console)
    job = make_job(config, run, progress)
    with _stage(console, 1, f"data: {config.source}"):
        for line in job.prepare()["summary"]:
            progress.say(line)
    with _stage(console, 2, f"train: {job.describe()}"):
        job.train()
    with _stage(console, 3, f"evaluate: {job.contenders}"):
        job.evaluate()
    with _stage(console, 4, "diagnose"):
        diagnosis = diagnose(run)
        run.write_findings(diagnosis.findings)
        run.write("diagnosis", diagnosis.to_dict())
        say(console, f"{len(diagnosis.judged)} rules judged, {len(diagnosis.findings)} findings")
    with _stage(console, 5, "check: the laws of attention on the trained model"):
        checks = job.check()
        say(console, "switched off by check=false" if checks is None else checks.headline())
    job.finish()
    _conclude(console, run)
    console.print()
    console.print(summary(run))


def _conclude(console: Console, run: Run) -> None:
    with _stage(console, 6, "ready"):
        items = judge(run)
        run.write_readiness(items)
        say(console, ": ".join(verdict(items)))
    with _stage(console, 7, "report"):
        write_report(run)


def _open(config: JobConfig, folder: Path, fresh: bool) -> Run:
    if fresh and (folder / "run.json").exists():
        _empty(folder)
    if not (folder / "run.json").exists():
        if {path.name for path in folder.iterdir()} - {"events.jsonl", LOCK_NAME}:
            raise RecordError(
                f"A run needs a new or empty folder, got {folder}, which holds other files; name another with --out."
            )
        seeds = {"seed": config.seed}
        return Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict(), seeds=seeds)
    run = Run.open(folder)
    changed = _difference(run.info.config, config.to_dict())
    if changed and not run.has("audit"):
        # It stopped before it had read its documents, as after a mistyped path: there is nothing to lose.
        (folder / "run.json").unlink()
        return _open(config, folder, fresh)
    if changed:
        raise RecordError(
            f"{folder} holds a run of another configuration ({changed}); name another folder with --out, "
            "or start over with --fresh."
        )
    return run


def _empty(folder: Path) -> None:
    """Delete what is in ``folder``, save the lock that this process holds."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_NAME:
            path.unlink()


def _difference(before: object, now: object, path: str = "") -> str:
    """Name the first setting that differs, with both values; empty where none does."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            found = _difference(before.get(name), now.get(name), f"{path}.{name}" if path else str(name))
            if found:
                return found
        return ""
    return "" if before == now else f"{path}: {before} there, {now} here"


@contextmanager
def _stage(console: Console, number: int, title: str) -> Iterator[None]:
    console.print(Text(f"{number}/7 {title}", style="bold"), soft_wrap=True)
    began = time.perf_counter()
    yield
    console.print(f"  [dim]{time.perf_counter() - began:.1f} s[/dim]")
