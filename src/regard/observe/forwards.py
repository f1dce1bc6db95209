"""What is known of the forward that runs: one for each thread, as a served model may run in several."""

import threading
from dataclasses import dataclass, field

from torch import Tensor

from regard.observe.padding import Padding

__all__ = ["Forward", "Forwards"]


@dataclass
class Forward:
    """What is known of one forward.

    Attributes:
        step: that its calls are counted under.
        calls: number of calls so far.
        padding: of its inputs.
        token_ids: ``source`` and ``target`` -> (batch, len).
        residuals: name of a block -> what entered it.
        seen: layers that have called.
    """

    step: int = 0
    calls: int = 0
    padding: Padding = field(default_factory=Padding)
    token_ids: dict[str, Tensor] = field(default_factory=dict)
    residuals: dict[str, Tensor] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class Forwards:
    """The forward that runs in this thread; a thread that began none works for the one that was begun last."""

    def __init__(self) -> None:
        self.last = Forward()
        self._own = threading.local()

    @property
    def now(self) -> Forward:
        """What runs in this thread."""
        own: Forward | None = getattr(self._own, "now", None)
        return self.last if own is None else own

    def begin(self, forward: Forward) -> None:
        """Run ``forward`` in this thread."""
        self._own.now = self.last = forward

    def end(self) -> None:
        """End it; what still comes in its step knows nothing of its inputs."""
        before = self.now
        self._own.now = None
        if self.last is before:
            self.last = Forward(step=before.step, calls=before.calls)

    def between(self, step: int) -> None:
        """Count what comes outside of a forward under ``step``."""
        self._own.now = None
        self.last = Forward(step=step)
