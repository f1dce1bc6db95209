"""Does a number grow? A line through its logarithms that a few wild steps cannot bend."""

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

__all__ = ["Trend", "growth"]

_REMEMBERED = 32
_FEWEST = 9
_SIGNIFICANT = 3.0  # rise over the window, in typical distances from the line


class Trend:
    """The last values of every head of a layer.

    Args:
        remembered: how many.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self.steps: deque[int] = deque(maxlen=remembered)
        self._values: deque[Sequence[float]] = deque(maxlen=remembered)

    def add(self, step: int, values: Sequence[float]) -> None:
        """Add one value a head; a second call within a step raises its values to the larger ones."""
        if self._values and len(values) != len(self._values[-1]):
            self.steps.clear()
            self._values.clear()
        if self.steps and self.steps[-1] == step:
            self._values[-1] = [max(pair) for pair in zip(self._values[-1], values, strict=True)]
            return
        self.steps.append(step)
        self._values.append(list(values))

    def growth(self, head: int) -> float:
        """Return the factor by which the value of ``head`` grows each step; 1 for no steady growth."""
        return growth(list(self.steps), self.of(head))

    def of(self, head: int) -> list[float]:
        """Return the values of ``head``, oldest first."""
        return [values[head] for values in self._values]


def growth(steps: Sequence[int], values: Sequence[float]) -> float:
    """Return the factor by which ``values`` grow from step to step, 1 where they do not grow steadily.

    The line through the logarithms is Tukey's: its slope joins the medians of the first and the last third, so that up
    to a sixth of the steps may lie anywhere. It counts where it rises by three times the median distance from it, and
    where the middle third lies above the first, and the last above the middle.

    Example:
        >>> growth(range(16), [1.1**step for step in range(16)])
        1.1
        >>> growth(range(16), [5.0, 7.0] * 8)
        1.0
    """
    kept = [(step, math.log(value)) for step, value in zip(steps, values, strict=True) if 0 < value < math.inf]
    if len(kept) < _FEWEST:
        return 1.0
    third = len(kept) // 3
    parts = (kept[:third], kept[third:-third], kept[-third:])
    at = [(median(step for step, _ in part), median(log for _, log in part)) for part in parts]
    if not at[0][1] < at[1][1] < at[2][1]:
        return 1.0
    slope = (at[2][1] - at[0][1]) / (at[2][0] - at[0][0])
    middle = median(log - slope * step for step, log in kept)
    distance = median(abs(log - slope * step - middle) for step, log in kept)
    if at[2][1] - at[0][1] < _SIGNIFICANT * distance:
        return 1.0
    return round(math.exp(slope), 12)
