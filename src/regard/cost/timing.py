"""How long things take: measured in turn, so that a slow moment of the machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Timing", "in_turn", "ratio"]

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Samples of one action, in seconds.

    Attributes:
        samples: in the order in which they were taken.
        waiting: share of the time in which threads of this process could run and had no core; None where the system
            does not count it. Above 5 % the figures are those of a busy machine.
    """

    samples: Sequence[float]
    waiting: float | None = None

    @property
    def median(self) -> float:
        """The sample in the middle."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        low, high = self.quartiles
        found = {"median_s": self.median, "low_s": low, "high_s": high}
        return {**found, "rounds": len(self.samples), "waiting": self.waiting}


def ratio(after: Timing, before: Timing) -> float:
    """Return the median, over the rounds, of what ``after`` took as a share of what ``before`` took."""
    return statistics.median(a / b for a, b in zip(after.samples, before.samples, strict=True))


def in_turn(
    actions: Mapping[str, Callable[[], object]], *, rounds: int = 7, budget_s: float = 20.0, warm_ups: int = 2
) -> dict[str, Timing]:
    """Run every action once a round, each round beginning with another one.

    Args:
        actions: name -> what is measured.
        rounds: how often each is measured at most.
        budget_s: no round begins after this time, but three are always taken.
        warm_ups: runs of each before the first round, not measured.
    """
    names = list(actions)
    for name in names:
        for _ in range(warm_ups):
            actions[name]()
    samples: dict[str, list[float]] = {name: [] for name in names}
    waited = dict.fromkeys(names, 0.0)
    began, counts = time.perf_counter(), _waits_ns() is not None
    for number in range(rounds):
        if number >= 3 and time.perf_counter() - began > budget_s:
            break
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds, waiting = _timed(actions[name])
            samples[name].append(seconds)
            waited[name] += waiting
    return {
        name: Timing(samples=taken, waiting=waited[name] / sum(taken) if counts else None)
        for name, taken in samples.items()
    }


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return how long ``action`` took, and how long threads waited for a core meanwhile."""
    before = _waits_ns()
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    after = _waits_ns()
    if before is None or after is None:
        return seconds, 0.0
    return seconds, sum(wait - before.get(thread, 0) for thread, wait in after.items()) / 1e9


def _waits_ns() -> dict[str, int] | None:
    """Return thread -> nanoseconds that it could run and had no core; None where the system does not say."""
    if not _TASKS.is_dir():
        return None
    found: dict[str, int] = {}
    for task in _TASKS.iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text(encoding="ascii").split()[1])
        except (FileNotFoundError, ProcessLookupError):  # no such file in this kernel, or the thread has just ended
            continue
    return found or None
