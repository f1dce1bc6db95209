"""The scores that statistics look at: one attention call with the query rows of interest already picked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from regard.functional.impl.blocks import ScoreBlocks, accumulation_dtype
from regard.functional.masks import num_allowed_keys

__all__ = ["RowsCall"]


@dataclass(frozen=True, kw_only=True)
class RowsCall:
    """Query rows, all keys, and what shapes their scores; masks of four axes.

    ``positions`` are the rows' own positions among the keys, a range where all rows are there.
    """

    query: Tensor
    key: Tensor
    attn_mask: Tensor | None
    attn_bias: Tensor | None
    causal: bool
    scale: float
    softcap: float | None
    positions: Sequence[int]
    lse: Tensor | None = None

    def pick(self, rows: Tensor | None) -> "RowsCall":
        """Return the call with only ``rows`` (rows,), int64, or itself for None."""
        if rows is None:
            return self
        sides = {
            name: side if side is None or side.shape[2] == 1 else side.index_select(2, rows)
            for name, side in (("attn_mask", self.attn_mask), ("attn_bias", self.attn_bias))
        }
        return replace(
            self,
            query=self.query.index_select(2, rows),
            lse=None if self.lse is None else self.lse.index_select(2, rows),
            positions=[self.positions[row] for row in rows.tolist()],
            attn_mask=sides["attn_mask"],
            attn_bias=sides["attn_bias"],
        )

    def upcast(self) -> "RowsCall":
        """Return the call with inputs in at least float32."""
        dtype = accumulation_dtype(self.query.dtype)
        return replace(self, query=self.query.to(dtype), key=self.key.to(dtype))

    def blocks(self) -> ScoreBlocks:
        """Return the scores, to be computed block by block."""
        return ScoreBlocks(
            self.query,
            self.key,
            attn_mask=self.attn_mask,
            attn_bias=self.attn_bias,
            causal=self.causal,
            scale=self.scale,
            softcap=self.softcap,
            positions=self.positions,
        )

    @cached_property
    def position_tensor(self) -> Tensor:
        """The rows' own positions among the keys, int64 (rows,)."""
        if isinstance(self.positions, range):
            return torch.arange(self.positions.start, self.positions.stop, device=self.key.device)
        return torch.tensor(self.positions, device=self.key.device)

    @cached_property
    def num_keys(self) -> Tensor:
        """How many keys each row may see, int64 (batch or 1, heads or 1, rows)."""
        positions = self.position_tensor if self.causal else None
        return num_allowed_keys(
            self.attn_mask,
            self.causal,
            q_len=self.query.shape[2],
            kv_len=self.key.shape[2],
            attn_bias=self.attn_bias,
            positions=positions,
            device=self.key.device,
        )
