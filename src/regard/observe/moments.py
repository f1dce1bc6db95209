"""Sums that merge: count, sum, sum of squares, extremes per head, the same from one call or from many.

Merging is associative and commutative up to float64 rounding, so that calls, steps, devices and ranks may be summed in
any grouping.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments"]

_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Summary of several statistics over the rows of one layer; each tensor is (statistics, heads) in float64.

    ``num_rows`` counts the rows that entered; ``num_empty`` those that see no key; ``population`` the rows of which
    they are a sample (equal to ``num_rows`` where all rows were taken). ``quantiles`` is (3, statistics, heads) for
    10, 50 and 90 % or None. Quantiles do not add, so merging two non-empty summaries drops them.
    """

    num_rows: Tensor
    num_empty: Tensor
    population: Tensor
    total: Tensor
    squares: Tensor
    minimum: Tensor
    maximum: Tensor
    quantiles: Tensor | None = None

    @classmethod
    def of(cls, values: Tensor, counted: Tensor, empty: Tensor, *, num_all: int, quantiles: bool = False) -> "Moments":
        """Summarise the rows of one call.

        Args:
            values: (statistics, batch, heads, rows); NaN where undefined, which is left out.
            counted: bool (batch or 1, 1, rows): rows that count (padding does not).
            empty: bool, broadcasts to (batch, heads, rows): rows that may see no key.
            num_all: number of rows of the call that count, of which ``values`` may hold a sample.
            quantiles: also compute the 10, 50 and 90 % quantiles.
        """
        num_counted = int(counted.sum()) * (values.shape[1] // counted.shape[0])
        valid = counted & ~values.isnan()
        zeroed = values.masked_fill(~valid, 0.0)
        axes = (1, 3)
        num_rows = valid.sum(axes).double()
        num_empty = (counted & empty).expand(values.shape[1:]).sum((0, 2)).double()
        return cls(
            num_rows=num_rows,
            num_empty=num_empty.expand_as(num_rows),
            population=num_rows * (num_all / max(num_counted, 1)),
            total=zeroed.sum(axes, dtype=torch.float64),
            squares=zeroed.double().square_().sum(axes),
            minimum=values.masked_fill(~valid, torch.inf).amin(axes).double(),
            maximum=values.masked_fill(~valid, -torch.inf).amax(axes).double(),
            quantiles=_quantiles(values.masked_fill(~valid, torch.inf), num_rows) if quantiles else None,
        )

    def merge(self, other: "Moments") -> "Moments":
        """Return the summary of both sets of rows."""
        return type(self)(
            num_rows=self.num_rows + other.num_rows,
            num_empty=self.num_empty + other.num_empty,
            population=self.population + other.population,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            minimum=torch.minimum(self.minimum, other.minimum),
            maximum=torch.maximum(self.maximum, other.maximum),
        )

    def pick(self, index: int) -> "Moments":
        """Return the summary of one statistic, each tensor (1, heads)."""
        names = ("num_rows", "num_empty", "population", "total", "squares", "minimum", "maximum")
        return type(self)(**{name: getattr(self, name)[index : index + 1] for name in names})

    @property
    def mean(self) -> Tensor:
        """Mean over the rows; NaN where no row counted."""
        return self.total / self.num_rows

    @property
    def standard_error(self) -> Tensor:
        """Standard error of ``mean`` as an estimate for all rows; 0 where all rows were taken, NaN below two rows.

        Rows are drawn without replacement, hence the finite-population correction (Cochran, Sampling Techniques).
        """
        variance = (self.squares - self.total.square() / self.num_rows).clamp_min(0.0) / (self.num_rows - 1)
        unseen = 1.0 - self.num_rows / self.population
        return torch.where(self.num_rows >= 2, torch.sqrt(variance / self.num_rows * unseen), torch.nan)


def _quantiles(values: Tensor, num_rows: Tensor) -> Tensor:
    """Nearest-rank quantiles; rows that do not count are +inf and hence sorted to the end."""
    ordered = values.transpose(1, 2).flatten(2).sort(dim=2).values
    picks = []
    for share in _QUANTILES:
        index = ((num_rows - 1).clamp_min(0) * share).round().long()
        picks.append(ordered.gather(2, index[..., None])[..., 0].double().where(num_rows > 0, torch.nan))
    return torch.stack(picks)
