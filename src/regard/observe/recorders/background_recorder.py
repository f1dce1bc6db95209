"""What recorders share that write in a thread of their own."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from types import TracebackType
from typing import TypeVar

from regard._errors import RecordError
from regard.observe.moments import Moments
from regard.observe.recorders.background import Background
from regard.observe.recorders.waiting import Seen, Waiting

__all__ = ["BackgroundRecorder", "StepRecorder"]

_Recorder = TypeVar("_Recorder", bound="BackgroundRecorder")


class BackgroundRecorder(ABC):
    """Recorder that keeps summaries until there is enough to write, and writes in another thread.

    A context manager that closes itself. What goes wrong in the thread is raised by the next ``add``, ``flush`` or
    ``close`` as a RecordError.
    """

    def __init__(self) -> None:
        self._name = type(self).__name__
        self._waiting = Waiting()
        self._background = Background(self._name)
        self._lock = threading.Lock()
        self._closed = False

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step and layer are merged.

        Raises:
            RecordError: what came before could not be written, or the recorder is closed.
        """
        with self._lock:
            self._check_open()
            self._background.check()
            if self._is_due(step):
                self._hand_over()
            self._waiting.add(step, layer, statistics, moments)

    def flush(self) -> None:
        """Write what is waiting; when this returns it is where it belongs.

        Raises:
            RecordError: it could not be written.
        """
        with self._lock:
            if not self._closed:
                self._hand_over()
                self._background.submit(self._sync)
                self._background.flush()

    def close(self) -> None:
        """Write what is waiting, end the thread and give back what is held; closing twice is harmless.

        A forked process has nothing to close of what its parent made.

        Raises:
            RecordError: something could not be written.
        """
        if not self._background.is_here:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._hand_over()
            finally:
                try:
                    self._background.submit(self._end)
                finally:
                    self._background.close()

    def __enter__(self: _Recorder) -> _Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RecordError(f"A recorder must be open to take statistics, got a closed {self._name}; make a new one.")

    def _hand_over(self) -> None:
        seen = self._waiting.take()
        self._background.submit(lambda: self._write(seen))

    @abstractmethod
    def _is_due(self, step: int) -> bool:
        """Whether to write what is waiting before a call of ``step`` is taken."""

    @abstractmethod
    def _write(self, seen: Sequence[Seen]) -> None:
        """Write, in the thread."""

    def _sync(self) -> None:  # noqa: B027 - not every recorder holds something back
        """See that all that was written is where it belongs, in the thread."""

    def _end(self) -> None:
        """Write what comes last and give back what is held, in the thread."""
        self._sync()


class StepRecorder(BackgroundRecorder):
    """Writes whole steps: a step is over when a later one begins, or at ``flush``.

    What still comes of a step that was over, such as gradients of an earlier forward, is written with the next one,
    under its own step.
    """

    def _is_due(self, step: int) -> bool:
        return step > self._waiting.newest_step > 0

    def _write(self, seen: Sequence[Seen]) -> None:
        ordered = sorted(seen, key=lambda one: one.step)
        for step, of_step in groupby(ordered, key=lambda one: one.step):
            self._write_step(step, list(of_step))

    @abstractmethod
    def _write_step(self, step: int, seen: Sequence[Seen]) -> None:
        """Write what was seen at ``step``, in the thread."""
