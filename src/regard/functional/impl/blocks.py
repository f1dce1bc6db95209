"""Scores of one attention call, block by block: the one place that knows how scale, softcap, bias and masks make them.

Scores are in **base 2** (multiplied by log2 e): on a CPU ``exp2`` takes a quarter of the time of ``exp``, and the
factor costs nothing, since it goes into the scale of the queries. They are computed in float32, or float64 for float64.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LN2", "LOG2E", "Place", "ScoreBlocks", "accumulation_dtype"]

LN2 = math.log(2.0)
LOG2E = 1.0 / LN2

_BLOCK_SCORES = 1 << 19  # scores of one block: 2 MiB in float32, so that a block and its exponentials stay in cache
_BLOCK_KEYS = 2048
_CAUSAL_ROWS = 128


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 and float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Place:
    """Which part of all scores: slices of batch, key heads and query rows."""

    batch: slice
    heads: slice
    rows: slice


class ScoreBlocks:
    """Masked scores of query (batch, heads, rows, head_dim) and key (batch, kv_heads, kv_len, head_dim), by block.

    Heads are kept in five axes (batch, kv_heads, group, rows, ·), so that grouped heads are never expanded.
    ``positions`` are the rows' own among the keys, aligned at the bottom right by default. Masks have four axes.
    ``unscaled`` turns ``query_rows`` into queries times ``scale``.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        *,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        causal: bool,
        scale: float | None,
        softcap: float | None,
        positions: Sequence[int] | None = None,
    ) -> None:
        dtype = accumulation_dtype(query.dtype)
        self.scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
        self.softcap = softcap
        self.causal = causal
        self.kv_heads, self.kv_len = key.shape[1], key.shape[2]
        self.group = query.shape[1] // key.shape[1]
        self.positions = range(key.shape[2] - query.shape[2], key.shape[2]) if positions is None else positions
        self.query = self.grouped(query).to(dtype)
        self.key = key.to(dtype)
        self.mask = self._side(attn_mask)
        self.bias = self._side(attn_bias)
        self.unscaled = LN2 if softcap is None else softcap
        self._factor = self.scale / self.unscaled

    def grouped(self, tensor: Tensor) -> Tensor:
        """Turn (batch, heads, …) into (batch, kv_heads, group, …)."""
        return tensor.reshape(tensor.shape[0], self.kv_heads, self.group, *tensor.shape[2:])

    def ungrouped(self, tensor: Tensor) -> Tensor:
        """Turn (batch, kv_heads, group, …) into (batch, heads, …)."""
        return tensor.flatten(1, 2)

    def places(self) -> Iterator[Place]:
        """Yield parts whose scores fit a block, several heads or sequences at a time where they are short."""
        batch, kv_heads, group, num_rows, _ = self.query.shape
        per_row = group * max(1, min(self.kv_len, _BLOCK_KEYS))
        # Causal rows are taken a quarter at a time, so that the first ones need not meet the last keys.
        most_rows = max(_CAUSAL_ROWS, -(-num_rows // 4)) if self.causal else num_rows
        row_step = max(1, min(num_rows, most_rows, _BLOCK_SCORES // per_row))
        head_step = max(1, min(kv_heads, _BLOCK_SCORES // (per_row * row_step)))
        per_sequence = per_row * row_step * head_step
        batch_step = max(1, min(batch, _BLOCK_SCORES // per_sequence)) if head_step == kv_heads else 1
        for first in range(0, batch, batch_step):
            for head in range(0, kv_heads, head_step):
                for row in range(0, num_rows, row_step):
                    yield Place(
                        slice(first, min(first + batch_step, batch)),
                        slice(head, min(head + head_step, kv_heads)),
                        slice(row, min(row + row_step, num_rows)),
                    )

    def key_slices(self, rows: slice) -> Iterator[slice]:
        """Yield slices of keys that some of ``rows`` may see: blocks beyond the causal corner are skipped."""
        stop = min(self.kv_len, self._bounds(rows)[1] + 1) if self.causal else self.kv_len
        for start in range(0, stop, _BLOCK_KEYS):
            yield slice(start, min(start + _BLOCK_KEYS, stop))

    @property
    def is_masked(self) -> bool:
        """Whether some score may be -inf."""
        return self.causal or self.mask is not None or self.bias is not None

    def query_rows(self, place: Place) -> Tensor:
        """Return the scaled queries (batch, kv_heads, group · rows, head_dim) of a place."""
        return (self.query[place.batch, place.heads, :, place.rows] * self._factor).flatten(2, 3)

    def scores(self, place: Place, keys: slice, query_rows: Tensor) -> Tensor:
        """Return the masked scores (batch, kv_heads, group, rows, keys) of a block in base 2, in a new tensor."""
        found = self._products(place, keys, query_rows)
        if self.softcap is not None:
            found.tanh_().mul_(self.softcap * LOG2E)
        return self._masked(found, place, keys)

    def scores_and_slope(self, place: Place, keys: slice, query_rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``scores`` and the derivative of the softcap at each, None where there is no softcap."""
        found = self._products(place, keys, query_rows)
        slope = None
        if self.softcap is not None:
            found.tanh_()
            slope = 1.0 - found.square()
            found.mul_(self.softcap * LOG2E)
        return self._masked(found, place, keys), slope

    def side_part(self, side: Tensor, place: Place, keys: slice) -> Tensor:
        """Return the part of a mask or bias of five axes that belongs to a block, unexpanded."""
        wanted = (place.batch, place.heads, slice(None), place.rows, keys)
        return side[tuple(at if size > 1 else slice(None) for at, size in zip(wanted, side.shape, strict=True))]

    def _products(self, place: Place, keys: slice, query_rows: Tensor) -> Tensor:
        products = query_rows @ self.key[place.batch, place.heads, keys].mT
        return products.reshape(*products.shape[:2], self.group, place.rows.stop - place.rows.start, products.shape[3])

    def _masked(self, scores: Tensor, place: Place, keys: slice) -> Tensor:
        """Add everything that is added to the scores: summed up in its own small shape first, then added once."""
        added: Tensor | None = None
        if self.bias is not None:
            added = self.side_part(self.bias, place, keys).to(scores.dtype) * LOG2E
        for keep in (self._keep(place, keys), self._causal_keep(place, keys)):
            if keep is not None:
                closed = scores.new_zeros(()).where(keep, -torch.inf)
                added = closed if added is None else added + closed
        return scores if added is None else scores.add_(added)

    def _keep(self, place: Place, keys: slice) -> Tensor | None:
        return None if self.mask is None else self.side_part(self.mask, place, keys)

    def _causal_keep(self, place: Place, keys: slice) -> Tensor | None:
        if not self.causal or keys.stop - 1 <= self._bounds(place.rows)[0]:
            return None
        device = self.key.device
        return torch.arange(keys.start, keys.stop, device=device) <= self.position_tensor(place.rows)[:, None]

    def position_tensor(self, rows: slice) -> Tensor:
        """Return the positions of ``rows`` among the keys, int64."""
        chosen = self.positions[rows]
        if isinstance(chosen, range):
            return torch.arange(chosen.start, chosen.stop, device=self.key.device)
        return torch.tensor(chosen, device=self.key.device)

    def _bounds(self, rows: slice) -> tuple[int, int]:
        chosen = self.positions[rows]
        return (chosen[0], chosen[-1]) if isinstance(chosen, range) else (min(chosen), max(chosen))

    def _side(self, side: Tensor | None) -> Tensor | None:
        """Turn a mask or bias of four axes into five."""
        if side is None:
            return None
        return self.grouped(side) if side.shape[1] > 1 else side[:, :, None]
