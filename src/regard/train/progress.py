"""What a long job tells while it works; the command line draws it, a library user may leave it silent."""

from typing import Protocol, runtime_checkable

__all__ = ["Progress", "Silent"]


@runtime_checkable
class Progress(Protocol):
    """Receives what a job does."""

    def say(self, message: str) -> None:
        """Tell one line."""
        ...

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin a task of ``total`` units of which ``done`` are behind us."""
        ...

    def advance(self, amount: int = 1, **values: float) -> None:
        """Move the current task on, with values worth showing, such as the loss."""
        ...

    def stop(self) -> None:
        """End the current task."""
        ...


class Silent:
    """Tells nothing."""

    def say(self, message: str) -> None:
        """Tell nothing."""

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Tell nothing."""

    def advance(self, amount: int = 1, **values: float) -> None:
        """Tell nothing."""

    def stop(self) -> None:
        """Tell nothing."""
