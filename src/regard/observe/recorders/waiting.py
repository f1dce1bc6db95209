"""Summaries that wait to be recorded: the calls of one step and layer are one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regard.observe.moments import Moments

__all__ = ["Seen", "Waiting", "by_statistic", "means", "path"]


@dataclass(kw_only=True)
class Seen:
    """What one layer told at one step.

    Attributes:
        step: counted from 1.
        layer: dotted module name; empty for the model itself.
        statistics: their names.
        calls: how many calls it sums up.
    """

    step: int
    layer: str
    statistics: tuple[str, ...]
    calls: int
    _moments: Moments
    _ready: torch.cuda.Event | None

    @property
    def moments(self) -> Moments:
        """The summary in the host's memory; another thread may ask."""
        if self._ready is not None:
            self._ready.synchronize()
        return self._moments.cpu()


class Waiting:
    """Summaries in the order in which they came."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str, tuple[str, ...]], Seen] = {}
        self.num_rows = 0
        self.newest_step = 0

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step, layer and statistics are merged."""
        key = (step, layer, statistics)
        before = self._seen.get(key)
        self.newest_step = max(self.newest_step, step)
        if before is None:
            self.num_rows += moments.num_rows.numel()
        else:
            moments = before._moments.merge(moments)
        calls = 1 if before is None else before.calls + 1
        self._seen[key] = Seen(
            step=step, layer=layer, statistics=statistics, calls=calls, _moments=moments, _ready=_event_after(moments)
        )  # fmt: skip

    def take(self) -> list[Seen]:
        """Give away what is waiting."""
        seen, self._seen, self.num_rows = list(self._seen.values()), {}, 0
        return seen


def by_statistic(seen: Sequence[Seen]) -> dict[tuple[str, str], Moments]:
    """Return (layer, statistic) -> its summary, each tensor (1, heads), in the order of appearance."""
    found: dict[tuple[str, str], Moments] = {}
    for one in seen:
        moments = one.moments
        for index, name in enumerate(one.statistics):
            part = moments.pick(index)
            before = found.get((one.layer, name))
            found[one.layer, name] = part if before is None else before.merge(part)
    return found


def means(seen: Sequence[Seen]) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
    """Return (layer, statistic) -> (heads,) mean over the rows, NaN where no row counted."""
    return {key: moments.mean[0].numpy() for key, moments in by_statistic(seen).items()}


def path(*parts: str) -> str:
    """Join ``parts`` with slashes; the model itself has an empty name, which is left out."""
    return "/".join(part for part in parts if part)


def _event_after(moments: Moments) -> torch.cuda.Event | None:
    """Return what another thread waits for before it reads ``moments``, whose values a GPU may still compute."""
    if not moments.sums.is_cuda:
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(moments.sums.device))
    return event
