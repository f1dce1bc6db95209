"""Warnings while a model is watched: a head that behaves unlike itself, once."""

from collections.abc import Sequence

import torch

from regard.observe.changes import ChangeScores
from regard.observe.recorders import LogRecorder

__all__ = ["Alerts"]

_EVERY = 16  # steps between two looks: judging costs about 0.2 ms a layer
_THRESHOLD = 12.0
_FEWEST = 32  # steps that a head must have been seen


class Alerts:
    """Judges the last steps of one statistic of every head against the steps remembered, and logs what lies far off.

    The score is that of ``ChangeScores``, with the median over all steps that are remembered. A head is told again only
    when none of its steps was told for as long as the memory lasts.

    Args:
        changes: what is remembered.
        statistics: names that are watched; ``entropy`` is judged if it is among them, else the first.
        log: where alerts go.
    """

    def __init__(self, changes: ChangeScores, statistics: Sequence[str], log: LogRecorder) -> None:
        self._changes = changes
        self._statistic = "entropy" if "entropy" in statistics else statistics[0]
        self._log = log
        self._told: dict[tuple[str, int], int] = {}
        self._looked = 0

    def look(self, step: int) -> None:
        """Judge what came since the last look, if it is time; ``step`` begins now."""
        if step < self._looked:
            self._looked = 0
        if step - self._looked < _EVERY:
            return
        for layer, statistic in self._changes.series:
            if statistic == self._statistic:
                self._judge(layer)
        self._looked = step

    def _judge(self, layer: str) -> None:
        steps, values = self._changes.history(layer, self._statistic)
        if len(steps) < _FEWEST:
            return
        scores = self._changes.scores_of_all(layer, self._statistic)
        new = torch.tensor([self._looked <= step for step in steps])
        worst, index = scores.abs().nan_to_num(nan=0.0).masked_fill(~new[:, None], 0.0).max(0)
        for head in (worst > _THRESHOLD).nonzero()[:, 0].tolist():
            at = int(index[head])
            if steps[at] - self._told.get((layer, head), -len(steps)) >= len(steps):
                self._told[layer, head] = steps[at]
                self._tell(layer, head, steps[at], float(values[at, head]), float(scores[at, head]))

    def _tell(self, layer: str, head: int, step: int, value: float, score: float) -> None:
        message = "far from the steps around it" if abs(value) < float("inf") else "not a finite number"
        self._log.alert(step, layer, head, self._statistic, message, value=value, score=round(score, 1))
