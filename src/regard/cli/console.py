"""What a long job shows: a bar on a terminal, a line now and then elsewhere."""

import time

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["ConsoleProgress", "say"]

_LINE_EVERY_S = 15.0


def say(console: Console, message: str) -> None:
    """Print an indented line: wrapped between words on a terminal, never broken in a file."""
    if console.is_terminal:
        console.print(Padding(Text(message), (0, 0, 0, 2)))
    else:
        console.print(Text(f"  {message}"), soft_wrap=True)


class ConsoleProgress:
    """Draws the progress of a job; implements ``regard.train.Progress``.

    Args:
        console: where to draw; a bar if it is a terminal, otherwise a line every 15 seconds.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._name, self._total, self._done, self._first = "", 0, 0, 0
        self._began = self._told = 0.0
        self._tokens = 0.0
        self._loss: float | None = None

    def say(self, message: str) -> None:
        """Print one line, above the bar if there is one."""
        say(self._bar.console if self._bar is not None else self._console, message)

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin a bar."""
        self.stop()
        self._name, self._total, self._done, self._first = task, total, done, done
        self._began = self._told = time.monotonic()
        self._tokens, self._loss = 0.0, None
        if self._console.is_terminal:
            columns = (
                TextColumn("  {task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[values]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(task, total=total, completed=done, values="")

    def advance(self, amount: int = 1, **values: float) -> None:
        """Move on; ``loss`` is shown as a running mean, ``tokens`` as a rate."""
        self._done += amount
        self._tokens += values.get("tokens", 0.0)
        if "loss" in values:
            self._loss = values["loss"] if self._loss is None else 0.95 * self._loss + 0.05 * values["loss"]
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, values=self._values())
        elif time.monotonic() - self._told >= _LINE_EVERY_S:
            self._told = time.monotonic()
            left = (self._told - self._began) / max(self._done - self._first, 1) * (self._total - self._done)
            minutes, seconds = divmod(round(left), 60)
            told = f"{self._name} {self._done}/{self._total}  {self._values()}  {minutes}:{seconds:02d} left"
            say(self._console, told)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._task = None, None

    def _values(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        parts = [] if self._loss is None else [f"loss {self._loss:.4f}"]
        if self._tokens:
            parts.append(f"{self._tokens / seconds:,.0f} tokens/s")
        return "  ".join(parts)
