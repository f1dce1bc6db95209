"""Sums that merge: count, sum, sum of squares, extremes per head, the same from one call or from many.

Merging is associative and commutative up to float64 rounding, so that calls, steps, devices and ranks may be summed in
any grouping. Everything lies in two tensors, so that merging is two additions and ranks exchange two messages.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from regard._errors import ArgumentError

__all__ = ["Moments"]

_QUANTILES = (0.1, 0.5, 0.9)
_AT_ONCE = 1 << 18  # values summarised at a time: their float64 copies stay few, and in cache
_VARIES = 1e-12  # a variance below this share of the mean square is the rounding of float32 values

# Rows of ``sums`` and of ``lows``.
_NUM_ROWS, _NUM_EMPTY, _POPULATION, _TOTAL, _SQUARES, _NUM_SEQUENCES, _MEANS, _MEAN_SQUARES, _BETWEEN = range(9)
_MINIMUM, _MAXIMUM, _SEQUENCE_MINIMUM, _SEQUENCE_MAXIMUM = range(4)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Summary of several statistics over the rows of one layer; made by ``of``, read by name.

    Each property is (statistics, heads) in float64. A *sequence* is one sequence of one call with at least one row that
    counts; where its rows are spread over several calls, as in decoding, each call counts its own part.

    Attributes:
        sums: (9, statistics, heads) float64, what is added in merging.
        lows: (4, statistics, heads) float64, of which merging takes the smaller; maxima are kept negated.
        quantiles: (3, statistics, heads) for 10, 50 and 90 %, or None. Quantiles do not add, so merging drops them.

    Example:
        >>> values = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])  # one statistic, two sequences, one head, two rows
        >>> every = torch.ones(2, 1, 2, dtype=torch.bool)
        >>> moments = Moments.of(values, every, ~every, num_all=4)
        >>> moments.mean.item(), moments.sequence_minimum.item(), moments.sequence_share.item()
        (4.0, 2.0, 0.8)
    """

    sums: Tensor
    lows: Tensor
    quantiles: Tensor | None = None

    @classmethod
    def of(
        cls, values: Tensor, counted: Tensor, empty: Tensor, *, num_all: int | Tensor, quantiles: bool = False
    ) -> "Moments":
        """Summarise the rows of one call.

        Args:
            values: (statistics, batch, heads, rows); NaN where undefined, which is left out. One row for a statistic
                of whole sequences.
            counted: bool (batch or 1, 1, rows): rows that count. Padding does not, and neither do places that only
                fill up a sequence with fewer sampled rows than another.
            empty: bool, broadcasts to (batch, heads, rows): rows that may see no key.
            num_all: number of rows of the call that count, of which ``values`` may hold a sample.
            quantiles: also compute the 10, 50 and 90 % quantiles.
        """
        _, batch, num_heads, num_rows = values.shape
        num_empty = (counted & empty).sum(-1)
        num_counted = counted.sum(dtype=torch.float64) * (batch // counted.shape[0])
        step = max(1, _AT_ONCE // max(1, batch * num_heads * num_rows))
        parts = [_of_rows(part, counted, num_empty) for part in values.split(step)]
        sums = parts[0][0] if len(parts) == 1 else torch.cat([part[0] for part in parts], 1)
        lows = parts[0][1] if len(parts) == 1 else torch.cat([part[1] for part in parts], 1)
        sums[_POPULATION] *= num_all / num_counted.clamp_min(1.0)
        return cls(sums=sums, lows=lows, quantiles=_quantiles(values, counted, sums[_NUM_ROWS]) if quantiles else None)

    @classmethod
    def of_packed(
        cls,
        values: Tensor,
        counted: Tensor,
        empty: Tensor,
        *,
        lengths: Sequence[int],
        num_all: int | Tensor,
        quantiles: bool = False,
    ) -> "Moments":
        """Summarise the rows of packed sequences, (statistics, 1, heads, rows), of which each has so many rows.

        The other arguments are those of ``of``.
        """
        whole = cls.of(values, counted, empty, num_all=num_all, quantiles=quantiles)
        cut = zip(*(tensor.split(list(lengths), -1) for tensor in (values, counted, empty)), strict=True)
        parts = cls.sum(cls.of(*part, num_all=0) for part in cut)
        return cls(
            sums=torch.cat([whole.sums[:_NUM_SEQUENCES], parts.sums[_NUM_SEQUENCES:]]),
            lows=torch.cat([whole.lows[:_SEQUENCE_MINIMUM], parts.lows[_SEQUENCE_MINIMUM:]]),
            quantiles=whole.quantiles,
        )

    def merge(self, other: "Moments") -> "Moments":
        """Return the summary of both sets of rows."""
        return type(self)(sums=self.sums + other.sums, lows=torch.minimum(self.lows, other.lows))

    @classmethod
    def sum(cls, summaries: Iterable["Moments"]) -> "Moments":
        """Return the summary of all rows of several summaries.

        Raises:
            ArgumentError: there is none.
        """
        every = list(summaries)
        if not every:
            raise ArgumentError("Moments.sum needs at least one summary, got none.")
        return reduce(cls.merge, every)

    def pick(self, index: int) -> "Moments":
        """Return the summary of one statistic, each tensor (1, heads)."""
        at = slice(index, index + 1)
        quantiles = None if self.quantiles is None else self.quantiles[:, at]
        return type(self)(sums=self.sums[:, at], lows=self.lows[:, at], quantiles=quantiles)

    def cpu(self) -> "Moments":
        """Return the same summary in the host's memory."""
        return type(self).from_dict({name: tensor.cpu() for name, tensor in self.to_dict().items()})

    def spread(self, heads: Sequence[int], num_heads: int) -> "Moments":
        """Return the summary of ``num_heads`` heads of which these are ``heads``; nothing was seen of the others."""
        at = torch.tensor(list(heads), device=self.sums.device)
        size = (self.sums.shape[1], num_heads)
        quantiles = self.quantiles
        if quantiles is not None:
            quantiles = quantiles.new_full((len(quantiles), *size), torch.nan).index_copy(2, at, quantiles)
        return type(self)(
            sums=self.sums.new_zeros(len(self.sums), *size).index_copy(2, at, self.sums),
            lows=self.lows.new_full((len(self.lows), *size), torch.inf).index_copy(2, at, self.lows),
            quantiles=quantiles,
        )

    def to_dict(self) -> dict[str, Tensor]:
        """Return plain tensors, for ranks to exchange or a file to keep; ``from_dict`` takes them back."""
        plain = {"sums": self.sums, "lows": self.lows}
        return plain if self.quantiles is None else {**plain, "quantiles": self.quantiles}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """Return the summary that ``to_dict`` gave away.

        Raises:
            ArgumentError: tensors are missing, unknown or not of the shapes that belong together.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        of_statistics = shapes.get("sums", ())[1:]
        wanted = {"sums": (_BETWEEN + 1, *of_statistics), "lows": (_SEQUENCE_MAXIMUM + 1, *of_statistics)}
        wanted |= {"quantiles": (len(_QUANTILES), *of_statistics)} if "quantiles" in tensors else {}
        if shapes != wanted or len(of_statistics) != 2:
            raise ArgumentError(
                f"A summary needs sums (9, statistics, heads) and lows (4, statistics, heads), got {shapes}; "
                "give what to_dict returned."
            )
        return cls(**tensors)

    @property
    def num_rows(self) -> Tensor:
        """Number of rows that entered."""
        return self.sums[_NUM_ROWS]

    @property
    def num_empty(self) -> Tensor:
        """Number of counted rows that see no key."""
        return self.sums[_NUM_EMPTY]

    @property
    def population(self) -> Tensor:
        """Number of rows of which those that entered are a sample; ``num_rows`` where all rows were taken."""
        return self.sums[_POPULATION]

    @property
    def total(self) -> Tensor:
        """Sum over the rows."""
        return self.sums[_TOTAL]

    @property
    def squares(self) -> Tensor:
        """Sum of squares over the rows."""
        return self.sums[_SQUARES]

    @property
    def num_sequences(self) -> Tensor:
        """Number of sequences with at least one row that entered."""
        return self.sums[_NUM_SEQUENCES]

    @property
    def minimum(self) -> Tensor:
        """Smallest value of a row; NaN where no row counted."""
        return self.lows[_MINIMUM].where(self.num_rows > 0, torch.nan)

    @property
    def maximum(self) -> Tensor:
        """Largest value of a row; NaN where no row counted."""
        return -self.lows[_MAXIMUM].where(self.num_rows > 0, torch.nan)

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

    @property
    def sequence_minimum(self) -> Tensor:
        """Smallest mean of a sequence; NaN where no sequence counted."""
        return self.lows[_SEQUENCE_MINIMUM].where(self.num_sequences > 0, torch.nan)

    @property
    def sequence_maximum(self) -> Tensor:
        """Largest mean of a sequence; NaN where no sequence counted."""
        return -self.lows[_SEQUENCE_MAXIMUM].where(self.num_sequences > 0, torch.nan)

    @property
    def sequence_std(self) -> Tensor:
        """Standard deviation of the sequences' means around their own mean; NaN below two sequences."""
        number, total = self.num_sequences, self.sums[_MEANS]
        variance = (self.sums[_MEAN_SQUARES] - total.square() / number).clamp_min(0.0) / (number - 1)
        return torch.where(number >= 2, variance.sqrt(), torch.nan)

    @property
    def sequence_share(self) -> Tensor:
        """Share of the rows' variance that lies between sequences, 0 to 1 (correlation ratio, eta squared).

        0: every sequence has the same mean; 1: rows differ from sequence to sequence only. k sequences of m rows each
        give about (k - 1) / (k m - 1) where sequences do not matter at all: with few sampled rows read it against
        that. NaN below two sequences, where each has one row only, or where nothing varies beyond float32 rounding.

        References:
            Fisher, Statistical Methods for Research Workers, 1925, section 45.
        """
        mean_part = self.total.square() / self.num_rows
        between = self.sums[_BETWEEN] - mean_part
        overall = self.squares - mean_part
        defined = (self.num_sequences >= 2) & (self.num_rows > self.num_sequences) & (overall > _VARIES * self.squares)
        return torch.where(defined, (between / overall).clamp(0.0, 1.0), torch.nan)


def _of_rows(values: Tensor, counted: Tensor, num_empty: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``sums`` and ``lows`` of a few statistics; the population is left at the number of rows.

    This runs for every attention call of every step. On a CPU, comparisons and fills through boolean tensors cost six
    times as much as arithmetic, so what does not count is NaN, and tests for it are made in the values' own type.
    """
    if not values.numel():
        shape = (values.shape[0], values.shape[2])
        nothing = torch.zeros(1, *shape, dtype=torch.float64, device=values.device)
        return nothing.repeat(_BETWEEN + 1, 1, 1), nothing.repeat(_SEQUENCE_MAXIMUM + 1, 1, 1) + torch.inf
    known = _known(values, counted)
    rows = torch.empty(3, *values.shape, dtype=torch.float64, device=values.device)
    rows[0] = torch.eq(known, known, out=torch.empty_like(known))
    rows[1] = known.nan_to_num(0.0, torch.inf, -torch.inf)
    torch.mul(rows[1], rows[1], out=rows[2])
    number, total, squares = rows.sum(-1)  # each (statistics, batch, heads)

    lows = torch.empty(4, *number.shape, dtype=torch.float64, device=values.device)
    lows[_MINIMUM] = known.nan_to_num(torch.inf, torch.inf, -torch.inf).amin(-1)
    lows[_MAXIMUM] = known.nan_to_num_(-torch.inf, torch.inf, -torch.inf).amax(-1).neg_()

    mean = total / number.clamp_min(1.0)  # 0 for a sequence without rows, so that it adds nothing
    # The mean lies between the extremes; those of a sequence without rows are infinite and win.
    torch.maximum(mean, lows[_MINIMUM], out=lows[_SEQUENCE_MINIMUM])
    torch.maximum(-mean, lows[_MAXIMUM], out=lows[_SEQUENCE_MAXIMUM])
    sums = torch.stack(
        [
            number,
            num_empty.expand(number.shape),
            number,
            total,
            squares,
            number.clamp_max(1.0),
            mean,
            mean.square(),
            mean * total,
        ]
    )
    return sums.sum(2), lows.amin(2)


def _known(values: Tensor, counted: Tensor) -> Tensor:
    """Return a copy of ``values`` that is NaN where a row does not count."""
    return values + values.new_zeros(()).where(counted, torch.nan)


def _quantiles(values: Tensor, counted: Tensor, num_rows: Tensor) -> Tensor:
    """Nearest-rank quantiles; rows that do not count become +inf and hence are sorted to the end."""
    if not values.numel():
        return torch.full((len(_QUANTILES), *num_rows.shape), torch.nan, dtype=torch.float64, device=values.device)
    filled = _known(values, counted).nan_to_num_(torch.inf, torch.inf, -torch.inf)
    ordered = filled.transpose(1, 2).flatten(2).sort(dim=2).values
    picks = []
    for share in _QUANTILES:
        index = ((num_rows - 1).clamp_min(0) * share).round().long()
        picks.append(ordered.gather(2, index[..., None])[..., 0].double().where(num_rows > 0, torch.nan))
    return torch.stack(picks)
