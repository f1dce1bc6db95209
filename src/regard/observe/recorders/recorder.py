"""What a recorder is, and several as one."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol, runtime_checkable

from regard._errors import ArgumentError
from regard.observe.moments import Moments

__all__ = ["Recorder", "Recorders"]


@runtime_checkable
class Recorder(Protocol):
    """Takes statistics while a model runs."""

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; there may be several of a step and layer, in any order.

        Args:
            step: counted from 1.
            layer: dotted module name.
            statistics: their names.
            moments: their summary, (statistics, heads); it is not changed afterwards.
        """
        ...

    def flush(self) -> None:
        """Write what is waiting; when this returns it is where it belongs."""
        ...

    def close(self) -> None:
        """Flush and give back what is held; closing twice is harmless."""
        ...


class Recorders:
    """Several recorders as one.

    Args:
        recorders: what they are.

    Raises:
        ArgumentError: something that is not a recorder.
    """

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._all = tuple(recorders)
        for recorder in self._all:
            if not isinstance(recorder, Recorder):
                raise ArgumentError(f"A recorder must have add, flush and close, got {type(recorder).__name__}.")

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Give each the summary of one call."""
        for recorder in self._all:
            recorder.add(step, layer, statistics, moments)

    def flush(self) -> None:
        """Flush each, also after one that could not."""
        with ExitStack() as stack:
            for recorder in reversed(self._all):
                stack.callback(recorder.flush)

    def close(self) -> None:
        """Close each, also after one that could not."""
        with ExitStack() as stack:
            for recorder in reversed(self._all):
                stack.callback(recorder.close)
