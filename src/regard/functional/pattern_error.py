"""What a pattern changes in a layer that was made for dense attention, measured on some of its rows."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.call import checked_call, quiet
from regard.functional.impl.blocks import accumulation_dtype
from regard.functional.impl.chunked import attend_rows
from regard.functional.impl.rows_call import RowsCall
from regard.functional.masks import num_allowed_keys
from regard.functional.patterns import Pattern
from regard.functional.patterns.pattern import limited

__all__ = ["PatternError", "pattern_error"]

_AT_ONCE = 16  # rows looked at together


@dataclass(frozen=True, kw_only=True)
class PatternError:
    """How far attention by a pattern is from dense attention, by head; ``print`` it to read it.

    Rows are drawn at random, so each figure is a mean with its standard error, which is 0 where all rows were taken.
    Rows to which masks leave no key are not counted.

    Attributes:
        lost_mass: (heads,), share of the dense weights on keys that the pattern closes, 0 to 1.
        lost_mass_se: (heads,), its standard error.
        output_error: (heads,), mean of |output by the pattern - dense output| / |dense output|.
        output_error_se: (heads,), its standard error.
        largest_output_error: (heads,), the largest of them among the rows drawn.
        num_rows: rows that were looked at, of all sequences.
        num_all: rows that there are.
        pairs_share: pairs that the pattern allows, as a share of those that dense attention compares, masks left out.
    """

    lost_mass: Tensor
    lost_mass_se: Tensor
    output_error: Tensor
    output_error_se: Tensor
    largest_output_error: Tensor
    num_rows: int
    num_all: int
    pairs_share: float

    def __str__(self) -> str:
        """Return a table with a line for each head."""
        lines = [
            f"{self.num_rows:,} of {self.num_all:,} rows, {self.pairs_share:.2%} of the pairs of dense attention",
            f"{'head':>4}  {'mass lost':>18}  {'relative error of the output':>28}  {'largest':>8}",
        ]
        for head in range(len(self.lost_mass)):
            lost = f"{self.lost_mass[head]:.4f} ± {self.lost_mass_se[head]:.4f}"
            wrong = f"{self.output_error[head]:.4f} ± {self.output_error_se[head]:.4f}"
            lines.append(f"{head:>4}  {lost:>18}  {wrong:>28}  {self.largest_output_error[head]:>8.4f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        names = ("lost_mass", "lost_mass_se", "output_error", "output_error_se", "largest_output_error")
        by_head = {name: getattr(self, name).tolist() for name in names}
        return {**by_head, "num_rows": self.num_rows, "num_all": self.num_all, "pairs_share": self.pairs_share}


def pattern_error(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    pattern: Pattern,
    *,
    rows: int = 256,
    seed: int = 0,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> PatternError:
    """Measure how far attention by ``pattern`` is from attention without it, on rows drawn at random.

    A row costs what it costs in dense attention, and memory is linear in the lengths. The error of an output is at most
    twice the lost mass times the length of the longest value.

    Args:
        query: of the layer, after any rotation.
        key: likewise.
        value: likewise.
        pattern: to be measured.
        rows: how many rows of each sequence to draw, without putting back; all of them where there are no more.
        seed: of the draw.
        attn_mask: as for ``attention``, holds with the pattern and without it; the other arguments too.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        window: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.

    Raises:
        ArgumentError: fewer than two rows asked for, shapes that do not fit.
        DtypeError: types that do not belong.

    Example:
        >>> from regard.functional import patterns
        >>> query = key = value = torch.randn(1, 2, 64, 8)
        >>> found = pattern_error(query, key, value, patterns.sliding(64))
        >>> bool((found.lost_mass < 1e-6).all()), found.pairs_share
        (True, 1.0)
    """
    if rows < 2:
        raise ArgumentError(f"rows must be at least 2, so that there is a standard error, got {rows}.")
    shaping: dict[str, Any] = {
        "attn_mask": attn_mask, "attn_bias": attn_bias, "causal": causal, "window": window,
        "alibi_slopes": alibi_slopes, "scale": scale, "softcap": softcap,
    }  # fmt: skip
    with quiet(query):
        dense = checked_call(query, key, None, **shaping)
        sparse = checked_call(query, key, None, **shaping, pattern=pattern)
        values = value.detach().to(accumulation_dtype(value.dtype))
        drawn = _drawn(query, rows, seed)
        parts = [_of_rows(dense, sparse, values, some) for some in drawn.split(_AT_ONCE, -1)]
        lost, wrong = (torch.cat(found, -1).double() for found in zip(*parts, strict=True))
        num_all = query.shape[2]
        return PatternError(
            **_summary("lost_mass", lost, num_all),
            **_summary("output_error", wrong, num_all),
            largest_output_error=wrong.nan_to_num(nan=0.0).amax((0, 2)).cpu(),
            num_rows=drawn.numel(),
            num_all=query.shape[0] * num_all,
            pairs_share=_pairs_share(pattern, causal, window, num_all, key.shape[2]),
        )


def _drawn(query: Tensor, rows: int, seed: int) -> Tensor:
    """Return int64 (batch, rows), rising in each sequence."""
    generator = torch.Generator().manual_seed(seed)
    batch, q_len = query.shape[0], query.shape[2]
    found = [torch.randperm(q_len, generator=generator)[:rows].sort().values for _ in range(batch)]
    return torch.stack(found).to(query.device)


def _of_rows(dense: RowsCall, sparse: RowsCall, values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lost mass and the relative error of the output, each (batch, heads, rows), NaN without a key."""
    whole, whole_lse = attend_rows(dense.pick(rows).blocks(), values)
    part, part_lse = attend_rows(sparse.pick(rows).blocks(), values)
    lost = -torch.expm1(part_lse.double() - whole_lse.double())
    empty = whole_lse == -torch.inf
    wrong = torch.linalg.vector_norm((part - whole).double(), dim=-1)
    wrong = wrong / torch.linalg.vector_norm(whole.double(), dim=-1)
    return lost.clamp_min_(0.0).masked_fill_(empty, torch.nan), wrong.masked_fill_(empty, torch.nan)


def _summary(name: str, values: Tensor, num_all: int) -> dict[str, Tensor]:
    """Return mean and standard error of (batch, heads, rows) by head, of rows drawn without putting back."""
    flat = values.movedim(1, 0).flatten(1)
    counts = (~flat.isnan()).sum(-1)
    mean = flat.nanmean(-1)
    variance = (flat - mean[:, None]).square().nansum(-1) / (counts - 1).clamp_min(1)
    left = max(0.0, 1.0 - values.shape[2] / num_all)
    error = (variance / counts.clamp_min(1) * left).sqrt()
    return {name: mean.cpu(), f"{name}_se": error.masked_fill(counts < 2, math.nan).cpu()}


def _pairs_share(pattern: Pattern, causal: bool, window: int | None, q_len: int, kv_len: int) -> float:
    """Return the share of the pairs of dense attention that the pattern allows, masks left out."""
    dense = int(num_allowed_keys(None, causal, q_len=q_len, kv_len=kv_len, window=window).sum())
    return limited(pattern, causal, window).num_pairs(q_len, kv_len) / (pattern.batch * dense)
