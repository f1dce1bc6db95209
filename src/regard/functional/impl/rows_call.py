"""The scores that statistics look at: one attention call with the query rows of interest already picked."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from regard.functional.impl.blocks import ScoreBlocks, accumulation_dtype, positions_of
from regard.functional.impl.native import Scoring, native_obstacle
from regard.functional.impl.pattern_blocks import PatternBlocks, score_blocks
from regard.functional.impl.picking import pick_rows
from regard.functional.masks import num_allowed_keys
from regard.functional.patterns import Pattern

__all__ = ["RowsCall"]

_COPIED = 1 << 20  # entries of mask and bias that may be copied at a time in order to pick rows


@dataclass(frozen=True, kw_only=True)
class RowsCall:
    """Query rows, all keys, and what shapes their scores; masks of four axes.

    ``positions`` are the rows' own positions among the keys: a range where all rows are there, else int64 (rows,), or
    (batch, rows) where each sequence has its own.
    """

    query: Tensor
    key: Tensor
    attn_mask: Tensor | None
    attn_bias: Tensor | None
    causal: bool
    window: int | None = None
    alibi_slopes: Tensor | None = None
    scale: float
    softcap: float | None
    positions: range | Tensor
    lse: Tensor | None = None
    pattern: Pattern | None = None

    def pick(self, rows: Tensor) -> "RowsCall":
        """Return the call with only ``rows``, int64 (rows,), or (batch, rows) where each sequence has its own."""
        sides = {
            name: side if side is None or side.shape[2] == 1 else pick_rows(side, rows)
            for name, side in (("attn_mask", self.attn_mask), ("attn_bias", self.attn_bias))
        }
        assert isinstance(self.positions, range), "rows are picked once, out of all"
        return replace(
            self,
            query=pick_rows(self.query, rows),
            lse=None if self.lse is None else pick_rows(self.lse[..., None], rows)[..., 0],
            positions=rows + self.positions.start,
            attn_mask=sides["attn_mask"],
            attn_bias=sides["attn_bias"],
        )

    def parts(self, rows: Tensor | None) -> Iterator["RowsCall"]:
        """Yield the call with ``rows`` (itself for None), few at a time where rows of a mask or bias must be copied."""
        if rows is None:
            yield self
            return
        per_row = sum(self._copied(side, rows) for side in (self.attn_mask, self.attn_bias) if side is not None)
        for some in rows.split(max(1, _COPIED // max(1, per_row)), -1):
            yield self.pick(some)

    @staticmethod
    def _copied(side: Tensor, rows: Tensor) -> int:
        """Return how many entries one picked row of ``side`` has."""
        batch = side.shape[0] if rows.ndim == 1 else rows.shape[0]
        return 0 if side.shape[2] == 1 else batch * side.shape[1] * side.shape[3]

    def upcast(self) -> "RowsCall":
        """Return the call with inputs in at least float32."""
        dtype = accumulation_dtype(self.query.dtype)
        return replace(self, query=self.query.to(dtype), key=self.key.to(dtype))

    def blocks(self) -> ScoreBlocks:
        """Return the scores, to be computed block by block."""
        return score_blocks(
            self.query,
            self.key,
            attn_mask=self.attn_mask,
            attn_bias=self.attn_bias,
            causal=self.causal,
            window=self.window,
            alibi_slopes=self.alibi_slopes,
            scale=self.scale,
            softcap=self.softcap,
            positions=self.positions,
            pattern=self.pattern,
        )

    def native_obstacle(self) -> str | None:
        """Return what the native kernels would need in order to take this call, or None."""
        if self.pattern is not None:
            return "a call without a pattern"
        return native_obstacle(self.query, self.key)

    def native_scoring(self) -> Scoring:
        """Return what shapes the scores, as the native kernels take it."""
        return Scoring(
            scale=self.scale,
            attn_mask=self.attn_mask,
            attn_bias=self.attn_bias,
            causal=self.causal,
            window=self.window,
            alibi_slopes=self.alibi_slopes,
            softcap=self.softcap,
            positions=None if isinstance(self.positions, range) else self.positions,
        )

    @property
    def is_placed(self) -> bool:
        """Whether where rows and keys stand shapes the scores."""
        return self.causal or self.window is not None or self.alibi_slopes is not None or self.pattern is not None

    @cached_property
    def position_tensor(self) -> Tensor:
        """The rows' own positions among the keys, int64 (rows,) or (batch, 1, rows)."""
        found = positions_of(self.positions, self.key.device)
        return found if found.ndim == 1 else found[:, None]

    @cached_property
    def num_keys(self) -> Tensor:
        """How many keys each row may see, int64 (batch or 1, heads or 1, rows)."""
        if self.pattern is not None:
            blocks = self.blocks()
            assert isinstance(blocks, PatternBlocks), "made of a pattern"
            return blocks.num_keys()
        limited = self.causal or self.window is not None
        positions = positions_of(self.positions, self.key.device) if limited else None
        return num_allowed_keys(
            self.attn_mask,
            self.causal,
            q_len=self.query.shape[2],
            kv_len=self.key.shape[2],
            attn_bias=self.attn_bias,
            window=self.window,
            positions=positions,
            device=self.key.device,
        )
