"""Hand statistics to an experiment tracker: MLflow, Weights & Biases, trackio or any function of metrics and step."""

import math
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError
from regard.observe.moments import Moments
from regard.observe.recorders.waiting import Seen, Waiting, means, path

__all__ = ["TrackerRecorder"]


class TrackerRecorder:
    """Call a function with the metrics of each step: the mean over the heads of every layer and statistic.

    Metrics are named ``<statistic>/<layer>/mean`` and, with ``heads``, ``<statistic>/<layer>/head<h>``. What is not a
    finite number is left out: heads in which no row counted, and whatever overflowed.

    A step is told when the next one begins, or at ``flush``. The function is called in the thread that runs the model,
    since trackers keep their run in it (MLflow in a thread-local variable); a tracker that sends in that call holds up
    the model, so turn on its own queue (``mlflow.config.enable_async_logging()``) or tell it less often. What the
    function raises is not caught; the step that it was told is not told again.

    What still comes of a step that was told, such as gradients of an earlier forward, is told under its own step; a
    tracker that takes no earlier step, such as Weights & Biases, drops it and says so.

    A context manager that closes itself.

    Args:
        log: takes the metrics and the step, counted from 1.
        every: tell a statistic when this many steps have passed since it was told, 1 for every time.
        heads: also tell every single head.

    Raises:
        ArgumentError: ``every`` is below 1.

    Example:
        >>> told = []
        >>> with TrackerRecorder(lambda metrics, step: told.append((step, metrics))) as recorder:
        ...     with regard.watch(model, ["normalized_entropy"], recorder=recorder):
        ...         _ = model(inputs)
        >>> step, metrics = told[0]
        >>> step, sorted(metrics)[0]
        (1, 'normalized_entropy/encoder.layer.0.attention/mean')
    """

    def __init__(self, log: Callable[[dict[str, float], int], object], *, every: int = 1, heads: bool = False) -> None:
        if every < 1:
            raise ArgumentError(f"every must be a positive number of steps, got {every}.")
        self._log = log
        self._every = every
        self._heads = heads
        self._waiting = Waiting()
        self._told: dict[str, int] = {}

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step and layer are merged."""
        if step > self._waiting.newest_step > 0:
            self.flush()
        if any(self._is_due(name, step) for name in statistics):
            self._waiting.add(step, layer, statistics, moments)

    def flush(self) -> None:
        """Tell what is waiting."""
        seen = self._waiting.take()
        for step in sorted({one.step for one in seen}):
            metrics = self._metrics(step, [one for one in seen if one.step == step])
            if metrics:
                self._log(metrics, step)

    def close(self) -> None:
        """Tell what is waiting; the tracker stays open, closing twice is harmless."""
        self.flush()

    def __enter__(self) -> "TrackerRecorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_due(self, statistic: str, step: int) -> bool:
        """Return whether ``statistic`` is told at ``step``; what comes late of a step that was told is told too."""
        told = self._told.get(statistic, step)
        return step == told or abs(step - told) >= self._every

    def _metrics(self, step: int, seen: Sequence[Seen]) -> dict[str, float]:
        found = {key: values for key, values in means(seen).items() if self._is_due(key[1], step)}
        for _, statistic in found:
            self._told[statistic] = max(step, self._told.get(statistic, step))
        named = (pair for (layer, statistic), values in found.items() for pair in self._named(layer, statistic, values))
        return {name: value for name, value in named if math.isfinite(value)}

    def _named(self, layer: str, statistic: str, values: npt.NDArray[np.float64]) -> Iterator[tuple[str, float]]:
        known = values[~np.isnan(values)]
        # Not "<statistic>/<layer>" alone: MLflow's files would need that name for the folder of the heads.
        yield path(statistic, layer, "mean"), float(known.mean()) if known.size else math.nan
        if self._heads:
            for head, value in enumerate(values.tolist()):
                yield path(statistic, layer, f"head{head}"), value
