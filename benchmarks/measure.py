"""Measure peers in turn, throw away disturbed samples, and compare round by round.

Every round runs each peer once, so that a slow minute of the machine slows all of them, and a ratio is taken within a
round before the median over rounds. On Linux the kernel counts how long a thread that could run had to wait for a core;
a sample in which that was more than 5 % of its wall time measured the neighbours and is thrown away.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "MAX_WAITING",
    "MIN_KEPT",
    "Comparison",
    "Sample",
    "Samples",
    "Stopwatch",
    "collect",
    "compare",
    "timed",
    "timed_process",
]

MAX_WAITING = 0.05
"""Largest share of a kept sample's wall time that its threads, added up, may have waited for a core."""
MIN_KEPT = 5
"""Samples that are always kept: the least disturbed ones where fewer are clean, and then the table says so."""

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of one peer; ``waiting`` is a share of ``seconds``, or None where the system does not count it."""

    seconds: float
    waiting: float | None


Samples = dict[str, list[Sample]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A peer against another over the kept rounds.

    Attributes:
        peer: its name.
        against: the name of the other.
        seconds: median time of the peer.
        ratio: median over the rounds of peer time / other time; below 1 the peer is faster.
        low: first quartile of that ratio.
        high: third quartile of it.
        extra_s: median over the rounds of peer time - other time.
        num_kept: rounds that entered.
        num_taken: rounds that were measured.
        quiet: whether all that entered were undisturbed; None where that cannot be known.
    """

    peer: str
    against: str
    seconds: float
    ratio: float
    low: float
    high: float
    extra_s: float
    num_kept: int
    num_taken: int
    quiet: bool | None


class Stopwatch:
    """Wall time between ``start`` and ``stop``, and how long this process's threads waited for a core meanwhile."""

    def __init__(self) -> None:
        self._began = 0.0
        self._before: dict[str, int] | None = None
        self._sample: Sample | None = None

    def start(self) -> None:
        """Begin."""
        self._before = _waits_ns()
        self._began = time.perf_counter()

    def stop(self) -> None:
        """End; a second end is the one that counts."""
        seconds = time.perf_counter() - self._began
        after = _waits_ns()
        waiting = None
        if self._before is not None and after is not None:
            waited_ns = sum(wait - self._before.get(thread, 0) for thread, wait in after.items())
            waiting = waited_ns / 1e9 / seconds
        self._sample = Sample(seconds=seconds, waiting=waiting)

    @property
    def sample(self) -> Sample:
        """What was measured.

        Raises:
            RuntimeError: it was not started and stopped.
        """
        if self._sample is None:
            raise RuntimeError("A stopwatch must be started and stopped before it is read.")
        return self._sample


def timed(action: Callable[[], object]) -> Sample:
    """Run ``action`` in this process and measure it."""
    stopwatch = Stopwatch()
    stopwatch.start()
    action()
    stopwatch.stop()
    return stopwatch.sample


def timed_process(command: Sequence[str]) -> Sample:
    """Run ``command`` in a fresh process and measure it from start to exit; its first thread stands for its waiting.

    Raises:
        RuntimeError: it fails.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        waiting_ns = None
        if _TASKS.is_dir():
            # The process stays readable under /proc until it is reaped, which WNOWAIT puts off.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            waiting_ns = _wait_ns(Path(f"/proc/{process.pid}/schedstat"))
        process.wait()
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)} must succeed, got: {errors.read().decode(errors='replace')}")
    return Sample(seconds=seconds, waiting=None if waiting_ns is None else waiting_ns / 1e9 / seconds)


def collect(
    peers: Mapping[str, Callable[[], Sample]],
    *,
    rounds: int,
    most_rounds: int | None = None,
    warm_ups: int = 1,
    tell: Callable[[str], None] | None = None,
) -> Samples:
    """Run the peers in turn; each round begins with another one, so that no peer always follows the same.

    Args:
        peers: name -> one measured run; the first is the one that others are compared with.
        rounds: how often each peer is measured.
        most_rounds: go on up to this many while a peer has fewer than ``MIN_KEPT`` undisturbed rounds; None for not.
        warm_ups: runs of each peer before the first round, thrown away.
        tell: told each round.
    """
    names = list(peers)
    for name in names:
        for _ in range(warm_ups):
            peers[name]()
    samples: Samples = {name: [] for name in names}
    for number in range(max(rounds, most_rounds or 0)):
        if number >= rounds and all(len(_clean(samples, name, names[0])) >= MIN_KEPT for name in names):
            break
        if tell is not None:
            tell(f"round {number + 1} of {rounds}" if number < rounds else "one more round, too few were undisturbed")
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(peers[name]())
    return samples


def compare(samples: Samples, *, against: str | None = None) -> list[Comparison]:
    """Compare every peer of ``samples`` with ``against``, by default the first."""
    first = against or next(iter(samples))
    return [_compare(samples, peer, first) for peer in samples]


def _compare(samples: Samples, peer: str, against: str) -> Comparison:
    clean, taken = _clean(samples, peer, against), len(samples[peer])
    enough = min(MIN_KEPT, taken)
    by_waiting = sorted(range(taken), key=lambda number: _waiting(samples, peer, against, number) or 0.0)
    kept = clean if len(clean) >= enough else by_waiting[:enough]
    own = [samples[peer][number].seconds for number in kept]
    other = [samples[against][number].seconds for number in kept]
    ratios = [mine / theirs for mine, theirs in zip(own, other, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    counted = all(_waiting(samples, peer, against, number) is not None for number in kept)
    return Comparison(
        peer=peer,
        against=against,
        seconds=statistics.median(own),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        extra_s=statistics.median(mine - theirs for mine, theirs in zip(own, other, strict=True)),
        num_kept=len(kept),
        num_taken=taken,
        quiet=len(clean) >= enough if counted else None,
    )


def _clean(samples: Samples, peer: str, against: str) -> list[int]:
    """Return the rounds in which neither of the two waited too long; all of them where waiting is not counted."""
    rounds = range(len(samples[peer]))
    return [number for number in rounds if (_waiting(samples, peer, against, number) or 0.0) <= MAX_WAITING]


def _waiting(samples: Samples, peer: str, against: str, number: int) -> float | None:
    pair = (samples[peer][number].waiting, samples[against][number].waiting)
    known = [waiting for waiting in pair if waiting is not None]
    return max(known) if len(known) == 2 else None


def _waits_ns() -> dict[str, int] | None:
    """Return thread -> nanoseconds that it could run and had no core, or None where the system does not say."""
    if not _TASKS.is_dir():
        return None
    waits = {task.name: _wait_ns(task / "schedstat") for task in _TASKS.iterdir()}
    known = {thread: wait for thread, wait in waits.items() if wait is not None}
    return known or None


def _wait_ns(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError):  # no such file in this kernel, or the thread has just ended
        return None
