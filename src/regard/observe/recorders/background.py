"""Work that must not hold up the model: done in order, in a thread of its own."""

import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from regard import logs
from regard._errors import RecordError

__all__ = ["Background"]

_LOGGER = logging.getLogger("regard.watch")
_MOST_WAITING = 4  # pieces that may wait for the disk before the model does


class Background:
    """One thread that does what it is given, in order.

    An error of a piece is logged at once and raised by the next call; later pieces are done all the same. The thread
    begins with the first piece. It never keeps a process from ending: what was handed over is done, then it ends.

    Args:
        name: of the thread, and of who works in messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._worker: ThreadPoolExecutor | None = None
        self._pieces: deque[Future[None]] = deque()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made it; a fork has no copy of the thread."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raise a RecordError if a piece failed, or in any other process than the one that made it."""
        if not self.is_here:
            raise RecordError(
                f"A recorder must stay in the process that made it, got a {self._name} made by process "
                f"{self._process} in process {os.getpid()}; make it in the process that runs the model."
            )
        self._settle(_MOST_WAITING)

    def submit(self, work: Callable[[], None]) -> None:
        """Hand over ``work``; wait only if the thread is far behind.

        Raises:
            RecordError: an earlier piece failed, or this is a forked process and not the one that made it.
        """
        self.check()
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
        self._pieces.append(_started(self._worker, lambda: self._do(work)))
        self._settle(_MOST_WAITING)

    def flush(self) -> None:
        """Wait until everything handed over is done.

        Raises:
            RecordError: a piece failed.
        """
        self._settle(0)

    def close(self) -> None:
        """Wait until everything handed over is done and end the thread; closing twice is harmless.

        Raises:
            RecordError: a piece failed.
        """
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None
        self._settle(0)

    def _settle(self, most: int) -> None:
        """Wait until at most ``most`` pieces are undone, and raise what went wrong with any that is done."""
        while self._pieces and (len(self._pieces) > most or self._pieces[0].done()):
            error = self._pieces.popleft().exception()
            if error is not None:
                raise RecordError(
                    f"Statistics must get where they belong, but {self._name} failed with {_said(error)}"
                ) from error

    def _do(self, work: Callable[[], None]) -> None:
        """Log an error as it happens, for a program that ends without closing its recorder."""
        try:
            work()
        except BaseException as error:
            logs.event(_LOGGER, logging.ERROR, "recorder_failed", recorder=self._name, reason=_said(error))
            raise


def _started(worker: ThreadPoolExecutor, work: Callable[[], None]) -> Future[None]:
    try:
        return worker.submit(work)
    except RuntimeError:
        # An interpreter that is ending starts no work any more (an atexit handler closes the recorder): do it here.
        done: Future[None] = Future()
        work()
        done.set_result(None)
        return done


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
