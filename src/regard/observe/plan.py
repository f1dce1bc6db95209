"""What to look at and how often: statistics, rows, steps, layers, heads."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import ROW_STATISTICS

__all__ = ["STATISTICS", "Plan"]

STATISTICS: dict[str, str] = {
    **{name: definition.formula for name, definition in ROW_STATISTICS.items()},
    "padding_mass": "sum of p_ij over the keys j that the model's input marks as padding",
    "output_norm": "L2 norm of the head's output row",
}
"""Statistics that ``watch`` takes, with their formulas."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which statistics of which calls are taken; validated on construction.

    Attributes:
        statistics: names from ``STATISTICS``.
        rows: ``"all"`` query rows (exact) or the number of rows to sample from each call.
        every: take each statistic at every n-th step: one number, or one per statistic.
        quantiles_every: add the 10, 50 and 90 % quantiles at every n-th step; 0 for never.
        layers: patterns of dotted module names (``*`` matches anything) or None for all.
        heads: head indices or None for all.
        seed: of the sampled rows.
    """

    statistics: tuple[str, ...]
    rows: Literal["all"] | int = "all"
    every: int | Mapping[str, int] = 1
    quantiles_every: int = 0
    layers: Sequence[str] | None = None
    heads: Sequence[int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.statistics if name not in STATISTICS]
        if unknown or not self.statistics:
            raise ArgumentError(f"statistics must be names out of {', '.join(STATISTICS)}; got {unknown or 'none'}.")
        if self.rows != "all" and (not isinstance(self.rows, int) or self.rows < 1):
            raise ArgumentError(f'rows must be "all" or a positive number of rows, got {self.rows!r}.')
        if isinstance(self.every, Mapping) and not set(self.every) <= set(self.statistics):
            raise ArgumentError(f"every must name watched statistics, got {sorted(set(self.every))}.")
        if any(self._interval(name) < 1 for name in self.statistics):
            raise ArgumentError(f"every must be a positive number of steps, got {self.every!r}.")

    def due(self, step: int) -> tuple[str, ...]:
        """Return the statistics to take at ``step``, counted from 1: always at the first."""
        return tuple(name for name in self.statistics if (step - 1) % self._interval(name) == 0)

    def quantiles_due(self, step: int) -> bool:
        """Return whether quantiles are to be taken at ``step``."""
        return self.quantiles_every > 0 and (step - 1) % self.quantiles_every == 0

    def wants(self, layer: str) -> bool:
        """Return whether ``layer`` is among the chosen ones."""
        return self.layers is None or any(fnmatch.fnmatchcase(layer, pattern) for pattern in self.layers)

    def sample(self, q_len: int, *, step: int, call: int) -> Tensor | None:
        """Return (rows,) sorted indices of the query rows to take, or None for all.

        The draw depends on the seed, the step and the number of the call in it, and on nothing else; PyTorch's own
        random state is left alone.
        """
        if self.rows == "all" or self.rows >= q_len:
            return None
        generator = torch.Generator().manual_seed(hash((self.seed, step, call)) & 0x7FFF_FFFF_FFFF_FFFF)
        return torch.randperm(q_len, generator=generator)[: self.rows].sort().values

    def _interval(self, name: str) -> int:
        return self.every.get(name, 1) if isinstance(self.every, Mapping) else self.every
