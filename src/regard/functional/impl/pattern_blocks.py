"""Scores of the pairs that a pattern allows, block by block: what lies in closed blocks is never computed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.functional.impl import blocks
from regard.functional.impl.blocks import Place, ScoreBlocks
from regard.functional.impl.torch_private import is_imaginary, unheard
from regard.functional.patterns.layout import Index, Layout, Part, length_of
from regard.functional.patterns.pattern import Pattern, layouts_of, limited

__all__ = ["PatternBlocks", "PatternPlace", "score_blocks", "sequence_layouts"]

_FEW_ROWS = 8  # of a block where rows are picked: they lie apart, and each opens keys of its own


@dataclass(frozen=True)
class PatternPlace(Place):
    """A place with its keys, a few at a time, each with whether all rows see all of them."""

    pattern: Pattern
    keys: tuple[tuple[Index, bool], ...]


def score_blocks(query: Tensor, key: Tensor, *, pattern: Pattern | None = None, **shaping: Any) -> ScoreBlocks:
    """Return the masked scores of a call; causality and window become part of a pattern where there is one."""
    if pattern is None:
        return ScoreBlocks(query, key, **shaping)
    joined = limited(pattern, shaping.pop("causal"), shaping.pop("window"))
    return PatternBlocks(query, key, pattern=joined, **shaping)


class PatternBlocks(ScoreBlocks):
    """``ScoreBlocks`` of a pattern."""

    def __init__(self, query: Tensor, key: Tensor, *, pattern: Pattern, **shaping: Any) -> None:
        super().__init__(query, key, causal=False, **shaping)
        self.pattern = pattern
        self._layouts = sequence_layouts(pattern, self.positions, self.kv_len)

    @property
    def is_masked(self) -> bool:
        """Whether some score may be -inf."""
        return True

    @property
    def num_pairs(self) -> int:
        """How many scores are computed, of all batches and heads, those included that are hidden again."""
        return self._of_all([layout.num_computed for layout in self._layouts])

    @property
    def num_allowed(self) -> int | None:
        """How many pairs may attend, of all batches and heads; None where a mask says so besides."""
        if self.mask is not None or self.bias is not None:
            return None
        return self._of_all([int(layout.num_allowed.sum()) for layout in self._layouts])

    def num_keys(self) -> Tensor:
        """Return how many keys each row may see, int64 (batch or 1, heads or 1, rows)."""
        if self.mask is None and self.bias is None:
            return torch.stack([layout.num_allowed for layout in self._layouts])[:, None].to(self.device)
        found = torch.zeros(self.shape, dtype=torch.int64, device=self.device)
        for place in self.places():
            for keys in self.key_slices(place):
                keep = self.keep(place, keys)
                at = (place.batch, place.heads, slice(None), place.rows)
                found[at] += length_of(keys) if keep is None else _expanded(keep, length_of(keys)).sum(-1)
        return self.ungrouped(found)

    def num_seeing(self, counted: Tensor) -> Tensor:
        """Return how many of ``counted`` queries, int64 (batch or 1, rows), may see each key, (batch, heads, keys)."""
        batch, kv_heads, group, _ = self.shape
        found = torch.zeros(batch, kv_heads, group, self.kv_len, dtype=torch.int64, device=self.device)
        counted = counted.expand(batch, -1)
        for place in self.places():
            rows = counted[place.batch, place.rows][:, None, None, :, None]
            for keys in self.key_slices(place):
                keep = self.keep(place, keys)
                seen = rows if keep is None else rows * keep
                found[place.batch, place.heads, :, keys] += seen.sum(3)
        return self.ungrouped(found)

    def places(self, *, whole_heads: bool = False) -> Iterator[Place]:
        """Yield the blocks of rows of the pattern, a sequence at a time where it tells sequences apart."""
        if is_imaginary(self.query):
            return
        batch, kv_heads, group, _ = self.shape
        for number, layout in enumerate(self._layouts):
            shared = len(self._layouts) == 1
            pattern = self.pattern.sequence(min(number, self.pattern.batch - 1))
            sequences = range(batch) if shared else range(number, number + 1)
            for part in layout.parts():
                keys = tuple(_a_few(part))
                per_head = group * length_of(part.rows) * max((length_of(some) for some, _ in keys), default=1)
                most = max(1, blocks._BLOCK_SCORES // per_head)
                heads = kv_heads if whole_heads else min(kv_heads, most)
                several = max(1, most // heads) if heads == kv_heads else 1
                for first in range(0, len(sequences), several):
                    some = sequences[first : first + several]
                    for head in range(0, kv_heads, heads):
                        at = slice(head, min(head + heads, kv_heads))
                        yield PatternPlace(slice(some[0], some[-1] + 1), at, part.rows, 0, 0, pattern, keys)

    def key_slices(self, place: Place) -> Iterator[Index]:
        """Yield the keys of a place."""
        assert isinstance(place, PatternPlace), "places of a pattern"
        return (keys for keys, _ in place.keys)

    def _of_all(self, counts: list[int]) -> int:
        """Return what the sequences have, of one head each, for all heads and sequences."""
        batch, kv_heads, group, _ = self.shape
        return kv_heads * group * (batch // max(1, len(counts))) * sum(counts)

    def _keeps(self, place: Place, keys: Index) -> Iterator[Tensor]:
        yield from super()._keeps(place, keys)
        assert isinstance(place, PatternPlace), "places of a pattern"
        if not any(is_open for some, is_open in place.keys if some is keys):
            yield place.pattern.allows(self.position_tensor(place)[..., None], self.key_positions(keys))


def sequence_layouts(pattern: Pattern, positions: range | Tensor, kv_len: int) -> list[Layout]:
    """Return the layout of each sequence, one for all where neither pattern nor positions tell them apart."""
    with unheard():
        if isinstance(positions, range):
            return layouts_of(pattern, len(positions), kv_len)
        pattern.check(0, kv_len)
        rows = positions.cpu().reshape(-1, positions.shape[-1])
        count = max(len(rows), pattern.batch)
        return [
            Layout(pattern.sequence(min(at, pattern.batch - 1)), rows[min(at, len(rows) - 1)], kv_len, _FEW_ROWS)
            for at in range(count)
        ]


def _a_few(part: Part) -> Iterator[tuple[Index, bool]]:
    """Yield all keys at once where that are few, else those open to all rows and then the others."""
    keys = part.keys
    if keys is None:
        return
    if length_of(keys) <= blocks._BLOCK_KEYS:
        yield keys, part.masked is None
        return
    for some, is_open in ((part.open, True), (part.masked, False)):
        if some is None:
            continue
        for first in range(0, length_of(some), blocks._BLOCK_KEYS):
            end = min(first + blocks._BLOCK_KEYS, length_of(some))
            yield _cut(some, first, end), is_open


def _expanded(keep: Tensor, length: int) -> Tensor:
    """Return what is kept with an axis of keys, where it is the same for all."""
    return keep.expand(*keep.shape[:-1], length)


def _cut(index: Index, first: int, end: int) -> Index:
    return index[first:end] if isinstance(index, Tensor) else slice(index.start + first, index.start + end)
