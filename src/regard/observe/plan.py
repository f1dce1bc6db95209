"""What to look at and how often: statistics, rows, steps, layers, heads."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from regard._errors import ArgumentError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS

__all__ = ["GRADIENT_STATISTICS", "RESIDUAL_STATISTICS", "SEQUENCE_STATISTICS", "STATISTICS", "Plan", "matches"]

_OF_ROWS = {
    **{name: definition.formula for name, definition in ROW_STATISTICS.items()},
    "padding_mass": "sum of p_ij over the keys j that the model's input marks as padding",
    "output_norm": "L2 norm of the head's output row",
    "residual_share": "L2 norm of the head's output row / L2 norm of the residual stream's row that enters the block",
}
SEQUENCE_STATISTICS = {
    **{name: definition.formula for name, definition in COLUMN_STATISTICS.items()},
    "output_diversity": "Frobenius norm of the head's output minus its mean row / Frobenius norm of the head's output",
    "residual_diversity": "the same of the residual stream that enters the block, one value for all heads",
}
"""Statistics with one value a sequence and head."""
GRADIENT_STATISTICS = {
    "qk_gradient": "L2 norm of the gradient of the loss by the head's queries and keys",
    "vo_gradient": "L2 norm of the gradient of the loss by the head's values and output",
    "gradient_ratio": "qk_gradient / vo_gradient",
    "head_importance": "|sum of output x gradient of the loss by the output|",
}
"""Statistics of the backward pass, with one value a sequence and head."""
RESIDUAL_STATISTICS = ("residual_share", "residual_diversity")
"""Statistics that look at what enters the block around an attention layer."""
STATISTICS: dict[str, str] = {**_OF_ROWS, **SEQUENCE_STATISTICS, **GRADIENT_STATISTICS}
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
        keep: keep the last call of each layer: True, or patterns of the layers.
    """

    statistics: tuple[str, ...]
    rows: Literal["all"] | int = "all"
    every: int | Mapping[str, int] = 1
    quantiles_every: int = 0
    layers: Sequence[str] | None = None
    heads: Sequence[int] | None = None
    seed: int = 0
    keep: bool | Sequence[str] = False

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
        return self.layers is None or matches(layer, self.layers)

    def keeps(self, layer: str) -> bool:
        """Return whether the last call of ``layer`` is to be kept."""
        return self.keep if isinstance(self.keep, bool) else matches(layer, self.keep)

    def looks_at(self, names: Sequence[str]) -> bool:
        """Return whether one of ``names`` is among the chosen statistics."""
        return not set(names).isdisjoint(self.statistics)

    def seed_of(self, *, step: int, call: int) -> int:
        """Return the seed of the rows drawn from a call: of the plan's seed, the step, the call's number in it."""
        return hash((self.seed, step, call))

    def _interval(self, name: str) -> int:
        return self.every.get(name, 1) if isinstance(self.every, Mapping) else self.every


def matches(layer: str, patterns: Sequence[str]) -> bool:
    """Return whether the dotted name fits one of the patterns."""
    return any(fnmatch.fnmatchcase(layer, pattern) for pattern in patterns)
