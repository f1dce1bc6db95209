"""Scores of one attention call, block by block: the one place that knows how scale, softcap, bias and masks make them.

Scores are in **base 2** (multiplied by log2 e): on a CPU ``exp2`` takes a quarter of the time of ``exp``, and the
factor costs nothing, since it goes into the scale of the queries. They are computed in float32, or float64 for float64.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.functional.impl.torch_private import is_imaginary, product_of_transposed
from regard.functional.patterns.layout import Index, indices, length_of

__all__ = ["LN2", "LOG2E", "Grid", "Place", "ScoreBlocks", "accumulation_dtype", "positions_of"]

LN2 = math.log(2.0)
LOG2E = 1.0 / LN2

_BLOCK_SCORES = 1 << 19  # scores of one block: 2 MiB in float32, so that a block and its exponentials stay in cache
_BLOCK_KEYS = 2048
_CAUSAL_ROWS = 128
_MOST_CAUSAL_ROWS = 128


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 and float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def positions_of(positions: range | Tensor, device: torch.device) -> Tensor:
    """Return the positions of query rows among the keys, int64 (rows,) or (batch, rows)."""
    if isinstance(positions, range):
        return torch.arange(positions.start, positions.stop, positions.step, device=device)
    return positions


@dataclass(frozen=True)
class Place:
    """Which part of all scores: slices of batch and key heads, query rows; first and last position of those rows."""

    batch: slice
    heads: slice
    rows: Index
    first: int
    last: int


class Grid(ABC):
    """Scores (batch, kv_heads, group, rows, kv_len) in base 2, cut into blocks; who makes the scores is left open.

    Heads are kept in two axes, so that grouped heads are never expanded. ``positions`` say where the rows stand among
    the keys: a range, or int64 (rows,) or (batch, rows) where each sequence has its own.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        kv_len: int,
        *,
        causal: bool,
        window: int | None = None,
        positions: range | Tensor,
        dtype: torch.dtype,
        device: torch.device,
        rows_at_once: int | None = None,
    ) -> None:
        self.rows_at_once = rows_at_once
        self.shape = shape
        self.kv_len = kv_len
        self.causal = causal
        self.window = window
        self.positions = positions
        self.dtype = dtype
        self.device = device

    @property
    @abstractmethod
    def is_masked(self) -> bool:
        """Whether some score may be -inf."""

    @abstractmethod
    def scores_of(self, place: Place) -> Callable[[Index], Tensor]:
        """Return what gives the masked scores (batch, kv_heads, group, rows, keys) of some keys, a new tensor."""

    def empty(self, *axes: int) -> Tensor:
        """Return a tensor of results to be filled, (batch, kv_heads, group, rows) unless ``axes`` say otherwise."""
        return torch.empty(axes or self.shape, dtype=self.dtype, device=self.device)

    def grouped(self, tensor: Tensor) -> Tensor:
        """Turn (batch, heads, …) into (batch, kv_heads, group, …)."""
        return tensor.reshape(tensor.shape[0], self.shape[1], self.shape[2], *tensor.shape[2:])

    def ungrouped(self, tensor: Tensor) -> Tensor:
        """Turn (batch, kv_heads, group, …) into (batch, heads, …)."""
        return tensor.flatten(1, 2)

    def places(self, *, whole_heads: bool = False) -> Iterator[Place]:
        """Yield parts whose scores fit a block, several heads or sequences at a time where they are short.

        With ``whole_heads`` a part holds all heads.
        """
        if self.rows_at_once is not None:
            yield from self._places_of_rows(self.rows_at_once)
            return
        batch, kv_heads, group, num_rows = self.shape
        per_row = group * max(1, min(self.kv_len, _BLOCK_KEYS))
        # Causal rows, and those of a window, are taken a few at a time, so that the first need not meet the last keys.
        most_rows = max(_CAUSAL_ROWS, min(_MOST_CAUSAL_ROWS, -(-num_rows // 4))) if self._is_local else num_rows
        row_step = max(1, min(num_rows, most_rows, _BLOCK_SCORES // (per_row * (kv_heads if whole_heads else 1))))
        head_step = kv_heads if whole_heads else max(1, min(kv_heads, _BLOCK_SCORES // (per_row * row_step)))
        per_sequence = per_row * row_step * head_step
        batch_step = max(1, min(batch, _BLOCK_SCORES // per_sequence)) if head_step == kv_heads else 1
        for first in range(0, batch, batch_step):
            sequences = slice(first, min(first + batch_step, batch))
            for head in range(0, kv_heads, head_step):
                heads = slice(head, min(head + head_step, kv_heads))
                for row in range(0, num_rows, row_step):
                    rows = slice(row, min(row + row_step, num_rows))
                    yield Place(sequences, heads, rows, *self._ends(sequences, rows))

    def _places_of_rows(self, step: int) -> Iterator[Place]:
        """Yield ``step`` rows of all heads and sequences at a time."""
        batch, kv_heads, _, num_rows = self.shape
        for row in range(0, num_rows, step):
            everything, rows = slice(0, batch), slice(row, min(row + step, num_rows))
            yield Place(everything, slice(0, kv_heads), rows, *self._ends(everything, rows))

    def key_slices(self, place: Place) -> Iterator[Index]:
        """Yield keys that some rows of ``place`` may see, a few at a time: not those beyond causality or window."""
        begin, stop = 0, self.kv_len
        if self.window is not None:
            begin, stop = max(0, place.first - self.window + 1), min(stop, place.last + self.window)
        if self.causal:
            stop = min(self.kv_len, place.last + 1)
        # Keys that all rows may see are kept apart from the causal corner, so that only the corner is masked.
        corner = place.first + 1 if self.causal and place.first >= _CAUSAL_ROWS else stop
        step = _BLOCK_KEYS if self.rows_at_once is None else max(1, self.kv_len)
        for start, end in ((begin, min(corner, stop)), (max(begin, corner), stop)):
            for first in range(start, end, step):
                yield slice(first, min(first + step, end))

    @property
    def num_pairs(self) -> int:
        """How many scores are computed, of all batches and heads, those included that are hidden again."""
        group = self.shape[2]
        found = 0
        for place in Grid.places(self):
            rows = group * length_of(place.rows)
            units = (place.batch.stop - place.batch.start) * (place.heads.stop - place.heads.start)
            found += units * rows * sum(length_of(keys) for keys in self.key_slices(place))
        return found

    def position_tensor(self, place: Place) -> Tensor:
        """Return the positions of the rows of ``place``, int64, broadcasting to (batch, kv_heads, group, rows)."""
        if isinstance(self.positions, range):
            if isinstance(place.rows, Tensor):
                return place.rows.to(self.device) + self.positions.start
            return positions_of(self.positions[place.rows], self.device)
        if self.positions.ndim == 1:
            return self.positions[place.rows]
        return self.positions[place.batch, None, None, place.rows]

    def key_positions(self, keys: Index) -> Tensor:
        """Return the positions of some keys, int64 (keys,)."""
        return indices(keys).to(self.device)

    @property
    def _is_local(self) -> bool:
        """Whether where a row stands says which keys it may see."""
        return self.causal or self.window is not None

    def _ends(self, batch: slice, rows: slice) -> tuple[int, int]:
        """Return the first and the last position of some rows, as far as they matter: where keys may be skipped."""
        if isinstance(self.positions, range):
            chosen = self.positions[rows]
            return chosen[0], chosen[-1]
        if not self._is_local:
            return 0, self.kv_len - 1
        some = self.positions[rows] if self.positions.ndim == 1 else self.positions[batch, rows]
        return int(some.min()), int(some.max())


class ScoreBlocks(Grid):
    """Masked scores of query (batch, heads, rows, head_dim) and key (batch, kv_heads, kv_len, head_dim), by block.

    ``positions`` are aligned at the bottom right by default. Masks have four axes. ``unscaled`` turns ``query_rows``
    into queries times ``scale``.
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        *,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        causal: bool,
        window: int | None = None,
        alibi_slopes: Tensor | None = None,
        scale: float | None,
        softcap: float | None,
        positions: range | Tensor | None = None,
        rows_at_once: int | None = None,
    ) -> None:
        batch, heads, num_rows, head_dim = query.shape
        kv_heads, kv_len = key.shape[1:3]
        super().__init__(
            (batch, kv_heads, heads // kv_heads, num_rows),
            kv_len,
            causal=causal,
            window=window,
            positions=range(kv_len - num_rows, kv_len) if positions is None else positions,
            dtype=accumulation_dtype(query.dtype),
            device=query.device,
            rows_at_once=rows_at_once,
        )
        self.scale = 1.0 / math.sqrt(head_dim) if scale is None else scale
        self.softcap = softcap
        self.query = self.grouped(query).to(self.dtype)
        self.key = key.to(self.dtype)
        self.mask = self._side(attn_mask)
        self.bias = self._side(attn_bias)
        self.slopes = None if alibi_slopes is None else alibi_slopes.to(self.dtype).view(1, *self.shape[1:3], 1, 1)
        self.unscaled = LN2 if softcap is None else softcap
        self._factor = self.scale / self.unscaled

    def places(self, *, whole_heads: bool = False) -> Iterator[Place]:
        """Yield what ``Grid.places`` does; nothing of tensors without numbers, whose result has none either."""
        return iter(()) if is_imaginary(self.query) else super().places(whole_heads=whole_heads)

    @property
    def is_masked(self) -> bool:
        """Whether some score may be -inf."""
        return self._is_local or self.mask is not None or self.bias is not None

    def scores_of(self, place: Place) -> Callable[[Index], Tensor]:
        """Return what gives the masked scores (batch, kv_heads, group, rows, keys) of some keys, a new tensor."""
        query_rows = self.query_rows(place)
        return lambda keys: self.scores(place, keys, query_rows)

    def query_rows(self, place: Place) -> Tensor:
        """Return the scaled queries (batch, kv_heads, group · rows, head_dim) of a place."""
        return (self.query[place.batch, place.heads, :, place.rows] * self._factor).flatten(2, 3)

    def scores(self, place: Place, keys: Index, query_rows: Tensor) -> Tensor:
        """Return the masked scores (batch, kv_heads, group, rows, keys) of a block in base 2, in a new tensor."""
        found = self._products(place, keys, query_rows)
        if self.softcap is not None:
            found.tanh_().mul_(self.softcap * LOG2E)
        return self._masked(found, place, keys)

    def scores_and_slope(self, place: Place, keys: Index, query_rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``scores`` and the derivative of the softcap at each, None where there is no softcap."""
        found = self._products(place, keys, query_rows)
        slope = None
        if self.softcap is not None:
            found.tanh_()
            slope = 1.0 - found.square()
            found.mul_(self.softcap * LOG2E)
        return self._masked(found, place, keys), slope

    def distances(self, place: Place, keys: Index) -> Tensor:
        """Return how far the rows stand from the keys of a block, broadcasting to (batch, kv_heads, group, rows, keys).

        As numbers of the scores' type.
        """
        return (self.position_tensor(place)[..., None] - self.key_positions(keys)).abs_().to(self.dtype)

    def side_part(self, side: Tensor, place: Place, keys: Index) -> Tensor:
        """Return the part of a mask or bias of five axes that belongs to a block, unexpanded."""
        return side[self.side_index(side, place, keys)]

    def side_index(self, side: Tensor, place: Place, keys: Index) -> tuple[Index, ...]:
        """Return where that part lies."""
        rows = place.rows
        if isinstance(rows, Tensor) and isinstance(keys, Tensor) and min(side.shape[3:]) > 1:
            rows = rows[:, None]
        wanted = (place.batch, place.heads, slice(None), rows, keys)
        return tuple(at if size > 1 else slice(None) for at, size in zip(wanted, side.shape, strict=True))

    def keep(self, place: Place, keys: Index) -> Tensor | None:
        """Return which scores of a block are not hidden, broadcasting to it, by masks alone; None for all."""
        found = None if self.bias is None else self.side_part(self.bias, place, keys) > -torch.inf
        for keep in self._keeps(place, keys):
            found = keep if found is None else found & keep
        return found

    def _products(self, place: Place, keys: Index, query_rows: Tensor) -> Tensor:
        products = _times_transposed(query_rows, self.key[place.batch, place.heads, keys])
        return products.reshape(*products.shape[:2], self.shape[2], length_of(place.rows), products.shape[3])

    def _masked(self, scores: Tensor, place: Place, keys: Index) -> Tensor:
        """Add everything that is added to the scores: summed up in its own small shape first, then added once."""
        added: Tensor | None = None
        if self.bias is not None:
            added = self.side_part(self.bias, place, keys).to(scores.dtype) * LOG2E
        if self.slopes is not None:
            lower = self.distances(place, keys) * (self.slopes[:, place.heads] * -LOG2E)
            added = lower if added is None else added + lower
        for keep in self._keeps(place, keys):
            closed = scores.new_zeros(()).where(keep, -torch.inf)
            added = closed if added is None else added + closed
        return scores if added is None else scores.add_(added)

    def _keeps(self, place: Place, keys: Index) -> Iterator[Tensor]:
        """Yield what hides some scores of a block, True = not hidden."""
        if self.mask is not None:
            yield self.side_part(self.mask, place, keys)
        for keep in (self._causal_keep(place, keys), self._window_keep(place, keys)):
            if keep is not None:
                yield keep

    def _causal_keep(self, place: Place, keys: Index) -> Tensor | None:
        if not self.causal or (isinstance(keys, slice) and keys.stop - 1 <= place.first):
            return None
        return self.key_positions(keys) <= self.position_tensor(place)[..., None]

    def _window_keep(self, place: Place, keys: Index) -> Tensor | None:
        if self.window is None:
            return None
        if isinstance(keys, slice) and place.last - self.window < keys.start:
            is_inside = self.causal or keys.stop - 1 < place.first + self.window
        else:
            is_inside = False
        if is_inside:
            return None
        own, at = self.position_tensor(place)[..., None], self.key_positions(keys)
        near = at > own - self.window
        return near if self.causal else near & (at < own + self.window)

    def _side(self, side: Tensor | None) -> Tensor | None:
        """Turn a mask or bias of four axes into five."""
        if side is None:
            return None
        return self.grouped(side) if side.shape[1] > 1 else side[:, :, None]


def _times_transposed(query_rows: Tensor, key: Tensor) -> Tensor:
    """Return query_rows · keyᵀ of (batch, kv_heads, ·, head_dim).

    Models keep (batch, len, heads, head_dim) in memory: its batch and heads are not one axis, and ``matmul`` would copy
    all keys in order to make them one, which for few rows takes several times as long as the product itself.
    """
    products = product_of_transposed(query_rows, key)
    if products is not None:
        return products
    batch, kv_heads = key.shape[:2]
    if batch == 1 or key.device.type != "cpu" or key.stride(0) == kv_heads * key.stride(1):
        return query_rows @ key.mT
    products = query_rows.new_empty(batch, kv_heads, query_rows.shape[2], key.shape[2])
    for product, rows, keys in zip(products, query_rows, key, strict=True):
        torch.bmm(rows, keys.mT, out=product)
    return products
