"""Which heads behave unlike themselves: robust scores of the last step against the steps before it."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.observe.moments import Moments

__all__ = ["ChangeScores"]

_SIGMA = 1.4826  # standard deviation of a normal distribution, in median absolute deviations
_FEWEST = 8  # steps before the last one
_RELATIVE_FLOOR = 1e-3
_ABSOLUTE_FLOOR = 1e-9


class ChangeScores:
    """Remembers the mean of each head at the last steps and scores how far the last one lies off.

    The score of a head is (last - median) / (1.4826 MAD + floor), with the median and the median absolute deviation
    (MAD) over the ``window`` steps before the last one: about the number of standard deviations, and unmoved by
    outliers among those steps. The floor keeps float noise of a statistic that stands still from scoring: 0.1 % of the
    head's median or of the median head's, whichever is larger in size, and at least 1e-9. So at the usual threshold of
    8 no change below 0.8 % is told.

    Appending takes two small copies and waits for no device; scores are computed when they are asked for. Where steps
    go backwards, as in a run that was resumed, the steps from there on are forgotten; where a layer comes with another
    number of heads, what was known of the former heads.

    Args:
        window: number of steps to compare with, at least 8.

    References:
        Iglewicz & Hoaglin, How to detect and handle outliers, ASQC 1993: their modified z-score, whose 0.6745 is
        1 / 1.4826; they tell values beyond 3.5. Many heads at many steps ask for more.

    Example:
        >>> every = torch.ones(1, 1, 1, dtype=torch.bool)
        >>> changes = ChangeScores()
        >>> for step, value in enumerate([3.0, 3.1, 2.9, 3.0, 3.2, 3.0, 2.9, 3.1, 1.0], start=1):
        ...     values = torch.full((1, 1, 1, 1), value)
        ...     changes.add(step, "block.0", ("entropy",), Moments.of(values, every, ~every, num_all=1))
        >>> changes.inconsistent()[0]["score"] < -8
        True
    """

    def __init__(self, window: int = 64) -> None:
        if window < _FEWEST:
            raise ArgumentError(f"window must be at least {_FEWEST} steps, got {window}.")
        self._length = window + 1
        self._rings: dict[tuple[str, tuple[str, ...]], _Ring] = {}
        self._last_step: dict[str, int] = {}

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step are merged."""
        if step < self._last_step.get(layer, step):
            for (where, _), ring in self._rings.items():
                if where == layer:
                    ring.forget(step)
        self._last_step[layer] = step
        key = (layer, statistics)
        known = self._rings.get(key)
        if known is None or not known.takes(moments):
            known = self._rings[key] = _Ring(self._length, moments)
        known.add(step, moments)

    @property
    def series(self) -> list[tuple[str, str]]:
        """Every (layer, statistic) that is remembered, in the order of appearance."""
        return list(dict.fromkeys((layer, name) for layer, names in self._rings for name in names))

    def history(self, layer: str, statistic: str) -> tuple[list[int], Tensor]:
        """Return the steps that are remembered and the mean of each head at them, (steps, heads) float64.

        Raises:
            ArgumentError: nothing is remembered of that layer and statistic.
        """
        rings = [(ring, names) for (where, names), ring in self._rings.items() if where == layer and statistic in names]
        if not rings:
            known = [f"{where} {name}" for where, name in self.series]
            raise ArgumentError(f"A layer and a statistic that were seen are needed, {known}; got {layer} {statistic}.")
        newest = max((ring for ring, _ in rings), key=lambda ring: ring.last_step)
        sums: dict[int, Tensor] = {}
        for ring, names in rings:
            if ring.num_heads != newest.num_heads:
                continue  # the layer had another number of heads then: its heads were others
            for step, entry in ring.entries(names.index(statistic)):
                sums[step] = sums[step] + entry if step in sums else entry
        steps = sorted(sums)[-self._length :]
        number, total = torch.stack([sums[step] for step in steps]).unbind(1)
        return steps, total / number

    def scores(self, layer: str, statistic: str) -> Tensor:
        """Return the score of each head's last step, (heads,) float64; above 0 where it is above the median.

        NaN where the last step has no value, or fewer than 8 steps before it have one.

        Raises:
            ArgumentError: nothing is remembered of that layer and statistic.
        """
        return _judge(self.history(layer, statistic)[1])["score"]

    def scores_of_all(self, layer: str, statistic: str) -> Tensor:
        """Return the score of every step remembered against all of them, (steps, heads).

        Raises:
            ArgumentError: nothing is remembered of that layer and statistic.
        """
        _, values = self.history(layer, statistic)
        median, mad = _median_and_mad(values)
        return (values - median) / (_SIGMA * mad + _floor(median))

    def inconsistent(self, threshold: float = 8.0) -> list[dict[str, Any]]:
        """Return the heads whose last step scores beyond ``threshold`` to either side, the largest scores first.

        Each row has ``layer``, ``statistic``, ``head``, ``step``, ``value``, ``median``, ``mad`` and ``score``.

        Raises:
            ArgumentError: the threshold is not above 0.
        """
        if not threshold > 0:
            raise ArgumentError(f"threshold must be above 0, got {threshold}.")
        rows: list[dict[str, Any]] = []
        for layer, statistic in self.series:
            steps, values = self.history(layer, statistic)
            judged = {name: column.tolist() for name, column in _judge(values).items()}
            for head, score in enumerate(judged["score"]):
                if abs(score) > threshold:
                    where = {"layer": layer, "statistic": statistic, "head": head, "step": steps[-1]}
                    rows.append({**where, **{name: column[head] for name, column in judged.items()}})
        return sorted(rows, key=lambda row: -abs(row["score"]))

    def inconsistency(self, layer: str, statistic: str) -> Tensor:
        """Return how much each head changes from batch to batch: 1.4826 MAD / |median| of the steps remembered.

        (heads,) float64: 0 for a head that stands still, inf for one that moves around 0, NaN below 8 steps with a
        value. The last step counts as well.

        Raises:
            ArgumentError: nothing is remembered of that layer and statistic.
        """
        _, values = self.history(layer, statistic)
        median, mad = _median_and_mad(values)
        spread = torch.where(mad == 0, 0.0, _SIGMA * mad / median.abs())
        return spread.where(_enough(values), torch.nan)


class _Ring:
    """Number of rows and their total, per statistic and head, at the last steps of one layer."""

    def __init__(self, length: int, moments: Moments) -> None:
        self._entries = torch.zeros(length, 2, *moments.total.shape, dtype=torch.float64, device=moments.total.device)
        self._steps: deque[int] = deque(maxlen=length)
        self._next = 0

    @property
    def num_heads(self) -> int:
        """How many heads the layer has."""
        return self._entries.shape[3]

    @property
    def last_step(self) -> int:
        """The last step that is remembered, -1 for none."""
        return self._steps[-1] if self._steps else -1

    def takes(self, moments: Moments) -> bool:
        """Return whether a summary is of as many heads, on the same device."""
        return moments.total.shape == self._entries.shape[2:] and moments.total.device == self._entries.device

    def add(self, step: int, moments: Moments) -> None:
        """Add a summary to the last step, or begin a new step with it."""
        if self._steps and self._steps[-1] == step:
            entry = self._entries[self._next - 1]
            entry[0] += moments.num_rows
            entry[1] += moments.total
            return
        entry = self._entries[self._next]
        entry[0] = moments.num_rows
        entry[1] = moments.total
        self._steps.append(step)
        self._next = (self._next + 1) % len(self._entries)

    def forget(self, step: int) -> None:
        """Forget ``step`` and all after it."""
        while self._steps and self._steps[-1] >= step:
            self._steps.pop()
            self._next = (self._next - 1) % len(self._entries)

    def entries(self, statistic: int) -> Iterator[tuple[int, Tensor]]:
        """Yield each step with the number of rows and the total of its heads, (2, heads)."""
        for back, step in enumerate(reversed(self._steps), start=1):
            yield step, self._entries[(self._next - back) % len(self._entries), :, statistic]


def _judge(values: Tensor) -> dict[str, Tensor]:
    """Return value, median, MAD and score of the last of (steps, heads), each (heads,)."""
    last, before = values[-1], values[:-1]
    median, mad = _median_and_mad(before)
    score = (last - median) / (_SIGMA * mad + _floor(median))
    return {"value": last, "median": median, "mad": mad, "score": score.where(_enough(before), torch.nan)}


def _floor(median: Tensor) -> Tensor:
    larger = torch.maximum(median.abs(), median.abs().nanmedian())
    return (larger * _RELATIVE_FLOOR).clamp_min(_ABSOLUTE_FLOOR)


def _median_and_mad(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return median and median absolute deviation over the first axis; NaN where there is nothing."""
    if not len(values):
        nothing = torch.full_like(values.sum(0), torch.nan)
        return nothing, nothing
    median = values.nanquantile(0.5, dim=0)
    return median, (values - median).abs().nanquantile(0.5, dim=0)


def _enough(values: Tensor) -> Tensor:
    return values.isfinite().sum(0) >= _FEWEST
