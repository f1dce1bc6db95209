"""How a model's cost grows with the length: fitted slopes, and the lengths where one cost overtakes another."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from regard._errors import ArgumentError
from regard.cost.count import count
from regard.cost.parts import Part

__all__ = ["ALL", "Growth", "Scaling", "crossover", "scaling"]

ALL = "all"
"""Name of the sum of all parts."""
_LONGEST = 10**9


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A power law fitted to counts: flops = factor · length ** slope.

    Attributes:
        slope: of the straight line through the logarithms, by least squares.
        factor: of the power law.
        deviation: largest distance of a count from it, as a share of the count.
    """

    slope: float
    factor: float
    deviation: float

    def at(self, length: int | float) -> float:
        """Return the operations at ``length``."""
        return float(self.factor * length**self.slope)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Counts of one model over lengths.

    Attributes:
        name: what a person reads.
        lengths: in tokens, rising.
        flops: part, or ``"all"`` -> operations in products at each length.
        growth: the same -> the power law through them; parts that do no product are left out.
    """

    name: str
    lengths: Sequence[int]
    flops: Mapping[str, Sequence[int]]
    growth: Mapping[str, Growth]

    def at(self, length: int | float, part: Part | str = ALL) -> float:
        """Return the operations at any length by the power laws; ``"all"`` is the sum of the parts."""
        if part != ALL:
            return self.growth[part].at(length) if part in self.growth else 0.0
        return sum((growth.at(length) for name, growth in self.growth.items() if name != ALL), 0.0)

    def overtakes(self, part: Part | str) -> float | None:
        """Return the length from which ``part`` does more than all other parts together; None for never."""
        return _overtaking(lambda n: self.at(n, part), lambda n: self.at(n) - self.at(n, part))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "lengths": list(self.lengths),
            "flops": {str(part): list(values) for part, values in self.flops.items()},
            "slopes": {str(part): growth.slope for part, growth in self.growth.items()},
            "core_overtakes_rest_at": self.overtakes(Part.CORE),
        }


def scaling(
    model: nn.Module,
    inputs: Callable[[int], tuple[Sequence[Any], Mapping[str, Any]]],
    *,
    lengths: Sequence[int],
    name: str = "model",
    backward: bool = False,
) -> Scaling:
    """Count ``model`` at several lengths and fit how each part grows.

    Args:
        model: as for ``count``; nothing is computed.
        inputs: from a length to the arguments of the call, by position and by name.
        lengths: at least two, in tokens.
        name: of the model.
        backward: whether to count the backward pass too.

    Raises:
        ArgumentError: fewer than two different lengths, or one below 1.
        UnsupportedError: as for ``count``.

    Example:
        >>> import torch
        >>> found = scaling(
        ...     nn.LSTM(64, 64, batch_first=True), lambda n: ([torch.zeros(1, n, 64)], {}), lengths=[64, 256, 1024]
        ... )
        >>> round(found.growth["recurrent cells"].slope, 2)
        1.0
    """
    rising = sorted(set(lengths))
    if len(rising) < 2 or rising[0] < 1:
        raise ArgumentError(f"scaling needs at least two different lengths of 1 or more, got {list(lengths)}.")
    counted: list[dict[str, int]] = []
    for length in rising:
        positional, named = inputs(length)
        found = count(model, *positional, backward=backward, **named)
        parts = {str(part): share.flops for part, share in found.by_part().items() if share.flops}
        counted.append({**parts, ALL: found.flops})
    names = dict.fromkeys(part for one in counted for part in one)
    flops = {part: [one.get(part, 0) for one in counted] for part in names}
    growth = {part: _fitted(rising, values) for part, values in flops.items() if min(values) > 0}
    return Scaling(name=name, lengths=rising, flops=flops, growth=growth)


def crossover(first: Scaling, second: Scaling, part: Part | str = ALL) -> float | None:
    """Return the length from which ``first`` does more than ``second``; None for never.

    The counts are taken from the fitted power laws of the parts, so it may lie beyond the lengths that were counted.
    """
    return _overtaking(lambda n: first.at(n, part), lambda n: second.at(n, part))


def _fitted(lengths: Sequence[int], flops: Sequence[int]) -> Growth:
    x, y = np.log(np.asarray(lengths, dtype=float)), np.log(np.asarray(flops, dtype=float))
    slope, intercept = np.polyfit(x, y, 1)
    return Growth(
        slope=float(slope),
        factor=float(math.exp(intercept)),
        deviation=float(np.abs(np.exp(slope * x + intercept - y) - 1.0).max()),
    )


def _overtaking(rising: Callable[[float], float], other: Callable[[float], float]) -> float | None:
    """Return where ``rising`` grows beyond ``other``; None where it is not below at 1, or never grows beyond."""
    low, high = 1.0, 2.0
    if rising(low) >= other(low):
        return None
    while rising(high) < other(high):
        low, high = high, 2 * high
        if high > _LONGEST:
            return None
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < other(middle) else (low, middle)
    return high
