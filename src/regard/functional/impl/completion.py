"""From what a pass over the scores sums up to the statistics of rows: those made from others, NaN where not defined."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.functional.reference import SATURATION

__all__ = ["Rows", "bases"]

_MADE_FROM = {
    "normalized_entropy": {"entropy"},
    "effective_keys": {"entropy"},
    "saturated_share": {"max_weight"},
    "headroom": {"max_score", "min_score"},
}


def bases(names: Iterable[str]) -> set[str]:
    """Return what has to be summed up for the statistics ``names``."""
    return set().union(*(_MADE_FROM.get(name, {name}) for name in names))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is known of query rows beside their sums.

    ``num_keys`` and ``positions`` broadcast to (batch, heads, rows); ``dtype`` is the type of the scores in the model.
    """

    num_keys: Tensor
    positions: Tensor
    dtype: torch.dtype

    def complete(self, names: Iterable[str], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the statistics ``names`` from their ``bases``, NaN where they are not defined."""
        empty = self.num_keys == 0
        return {name: self._complete(name, found, empty) for name in names}

    def _complete(self, name: str, found: Mapping[str, Tensor], undefined: Tensor) -> Tensor:
        if name == "normalized_entropy":
            entropy = found["entropy"]
            values = (entropy / self.num_keys.to(entropy.dtype).log()).clamp_max(1.0)
            undefined = self.num_keys <= 1
        elif name == "effective_keys":
            values = found["entropy"].exp()
        elif name == "saturated_share":
            largest = found["max_weight"]
            values = (largest > SATURATION).to(largest.dtype).masked_fill(largest.isnan(), torch.nan)
        elif name == "headroom":
            largest = torch.maximum(found["max_score"], -found["min_score"])
            values = math.log2(torch.finfo(self.dtype).max) - largest.log2()
        else:
            values = found[name]
        if name in ("self_mass", "previous_mass"):
            undefined = undefined | (self.positions < (1 if name == "previous_mass" else 0))
        return values.masked_fill(undefined, torch.nan)
