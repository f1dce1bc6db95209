"""From a pattern to the blocks that have to be computed: which keys each block of queries touches, and how many pairs.

Blocks are compared by their bounds, so that pairs are looked at one by one only where a block is neither all open nor
all closed. Tokens that see, or are seen by, far more than their neighbours get blocks of their own: one of them would
open a whole block otherwise.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["BLOCK", "Extent", "Index", "Layout", "Part", "Relation", "as_index", "indices", "length_of"]

Index = slice | Tensor
"""Rows or keys: a slice where they follow each other, so that views can be taken, else int64 of one axis."""

BLOCK = 64
"""Queries, and keys, of a block."""

_COMPARED = 1 << 22  # blocks compared at a time
_TESTED = 1 << 20  # pairs tested at a time
_MOST_KEPT = 1 << 22  # keys of all parts together, up to which they are kept
_MOST_RUNS = 8  # of keys that follow each other, up to which they are copied as such


@runtime_checkable
class Relation(Protocol):
    """Who may see whom in one sequence; positions are those of keys."""

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return bool for positions that broadcast, (…, rows, 1) and (…, 1, keys)."""
        ...

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return bool (query blocks, key blocks): whether a pair may be open, and whether all are."""
        ...

    def wide(self, kv_len: int) -> tuple[Tensor, Tensor]:
        """Return bool (kv_len,): positions of queries, and of keys, that belong into blocks of their own."""
        ...


@dataclass(frozen=True)
class Extent:
    """The lowest and the highest number of each block, (blocks,); entries below 0 are nobody."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, blocks: Tensor) -> "Extent":
        """Return that of (blocks, block)."""
        return cls(blocks.masked_fill(blocks < 0, torch.iinfo(torch.int64).max).amin(-1), blocks.amax(-1))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block of query rows, the keys that all of them see, and those that only some of them may."""

    rows: Index
    open: Index | None
    masked: Index | None

    @cached_property
    def keys(self) -> Index | None:
        """All of them, rising; None where there are none."""
        if self.open is None or self.masked is None:
            return self.masked if self.open is None else self.open
        return as_index(torch.cat([indices(self.open), indices(self.masked)]).sort().values)

    @cached_property
    def masked_at(self) -> Tensor:
        """Where among ``keys`` those lie that only some rows may see."""
        if self.keys is None or self.masked is None:
            return torch.zeros(0, dtype=torch.int64)
        masked = indices(self.masked)
        return masked - self.keys.start if isinstance(self.keys, slice) else torch.searchsorted(self.keys, masked)

    @cached_property
    def runs(self) -> list[slice] | None:
        """The slices that the keys consist of, where they are few."""
        if isinstance(self.keys, slice):
            return [self.keys]
        if self.keys is None:
            return []
        ends = (self.keys.diff() != 1).nonzero()[:, 0] + 1
        if len(ends) >= _MOST_RUNS:
            return None
        begins = torch.cat([ends.new_zeros(1), ends])
        lasts = torch.cat([ends, ends.new_tensor([len(self.keys)])]) - 1
        bounds = zip(self.keys[begins].tolist(), self.keys[lasts].tolist(), strict=True)
        return [slice(first, last + 1) for first, last in bounds]


class Layout:
    """The blocks of one sequence.

    Args:
        relation: who may see whom.
        positions: of the query rows among the keys, int64 (rows,).
        kv_len: number of keys.
        block: queries of a block; a block of keys has ``BLOCK``.

    Attributes:
        num_allowed: int64 (rows,), how many keys each row may see.
        num_computed: pairs in blocks that are neither skipped nor empty.
    """

    def __init__(self, relation: Relation, positions: Tensor, kv_len: int, block: int = BLOCK) -> None:
        wide_queries, wide_keys = relation.wide(kv_len)
        self._rows = _blocks(len(positions), wide_queries[positions], block)
        self._keys = _blocks(kv_len, wide_keys, BLOCK)
        self._positions = torch.where(self._rows < 0, -1, positions[self._rows.clamp_min(0)])
        row_sizes, key_sizes = ((blocks >= 0).sum(-1) for blocks in (self._rows, self._keys))
        touched, columns, is_open = self._compared(relation)
        counts = torch.zeros_like(self._rows)
        counts.index_add_(0, touched[is_open], key_sizes[columns[is_open]][:, None].expand(-1, block))
        keep = torch.ones_like(is_open)
        for some in (~is_open).nonzero()[:, 0].split(max(1, _TESTED // (block * BLOCK))):
            allowed, valid = self._tested(relation, touched[some], columns[some])
            keep[some] = allowed.flatten(1).any(-1)
            is_open[some] = (allowed | ~valid).flatten(1).all(-1)
            counts.index_add_(0, touched[some], allowed.sum(-1))
        self._touched, self._columns, self._is_open = touched[keep], columns[keep], is_open[keep]
        self._ends = torch.searchsorted(self._touched, torch.arange(len(self._rows) + 1)).tolist()
        self.num_allowed = torch.zeros(len(positions), dtype=torch.int64)
        valid_rows = self._rows >= 0
        self.num_allowed[self._rows[valid_rows]] = counts[valid_rows]
        # Parts are kept for the next call where their lists of keys are few numbers.
        self._kept: list[Part] | None = [] if int(key_sizes[self._columns].sum()) <= _MOST_KEPT else None
        self.num_computed = int((row_sizes[self._touched] * key_sizes[self._columns]).sum())

    @property
    def num_parts(self) -> int:
        """How many blocks of rows there are."""
        return len(self._rows)

    @property
    def block_lists(self) -> list[tuple[Tensor, Tensor]]:
        """Each block of rows with the blocks of keys that it touches, as indices."""
        ranges = zip(self._ends[:-1], self._ends[1:], strict=True)
        return [
            (_valid(rows), self._columns[first:end])
            for rows, (first, end) in zip(self._rows, ranges, strict=True)
        ]  # fmt: skip

    def parts(self) -> Iterable[Part]:
        """Return every block of rows with its keys; together they hold each row once."""
        if self._kept is None:
            return self._parts()
        if not self._kept:
            self._kept.extend(self._parts())
        return self._kept

    def _parts(self) -> Iterator[Part]:
        for number, rows in enumerate(self._rows):
            at = slice(self._ends[number], self._ends[number + 1])
            columns, is_open = self._columns[at], self._is_open[at]
            yield Part(
                rows=as_index(_valid(rows)),
                open=self._keys_of(columns[is_open]),
                masked=self._keys_of(columns[~is_open]),
            )

    def _keys_of(self, columns: Tensor) -> Index | None:
        return as_index(_valid(self._keys[columns].flatten()).sort().values) if len(columns) else None

    def _compared(self, relation: Relation) -> tuple[Tensor, Tensor, Tensor]:
        """Return the blocks of rows and of keys that may touch, and whether all their pairs are open."""
        found = []
        step = max(1, _COMPARED // max(1, len(self._keys)))
        for first in range(0, len(self._rows), step):
            some, every = relation.bounds(self._positions[first : first + step], self._keys)
            rows, columns = some.nonzero(as_tuple=True)
            found.append((rows + first, columns, every[rows, columns]))
        if not found:
            nothing = torch.zeros(0, dtype=torch.int64)
            return nothing, nothing, nothing.bool()
        rows, columns, is_open = (torch.cat(some) for some in zip(*found, strict=True))
        return rows, columns, is_open

    def _tested(self, relation: Relation, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return which pairs of some blocks are open, and which are pairs at all, (blocks, rows, keys)."""
        queries, keys = self._positions[rows][:, :, None], self._keys[columns][:, None, :]
        valid = (queries >= 0) & (keys >= 0)
        return relation.allows(queries.clamp_min(0), keys.clamp_min(0)) & valid, valid


def as_index(numbers: Tensor) -> Index:
    """Return rising numbers as a slice where none is left out, and themselves otherwise."""
    first, last = int(numbers[0]), int(numbers[-1])
    follows = last - first + 1 == len(numbers) and (len(numbers) < 3 or bool((numbers.diff() == 1).all()))
    return slice(first, last + 1) if follows else numbers


def indices(index: Index) -> Tensor:
    """Return what an index stands for, int64 (entries,)."""
    return index if isinstance(index, Tensor) else torch.arange(index.start, index.stop)


def length_of(index: Index | None) -> int:
    """Return how many entries an index has."""
    if index is None:
        return 0
    return len(index) if isinstance(index, Tensor) else index.stop - index.start


def _blocks(length: int, wide: Tensor, block: int) -> Tensor:
    """Return 0 to ``length`` as (blocks, block), the wide ones first, -1 where a block is not full.

    The others keep their places, so that blocks begin where those of a pattern of blocks do.
    """
    numbers = torch.arange(length)
    parts = [wide.nonzero()[:, 0], numbers.masked_fill(wide, -1)]
    filled = [torch.nn.functional.pad(part, (0, -len(part) % block), value=-1).view(-1, block) for part in parts]
    found = torch.cat(filled)
    return found[(found >= 0).any(-1)]


def _valid(numbers: Tensor) -> Tensor:
    return numbers[numbers >= 0]
