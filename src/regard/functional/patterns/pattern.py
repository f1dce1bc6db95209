"""What a pattern is: who may see whom in a sequence, said by a rule instead of a matrix."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.patterns.layout import Extent, Layout

__all__ = ["Near", "Pattern", "as_window", "check_sequences", "layouts_of", "limited", "numbered"]

_REMEMBERED = 8  # layouts of one pattern, for as many lengths
_LAYOUTS: "WeakKeyDictionary[Pattern, OrderedDict[tuple[int, int], list[Layout]]]" = WeakKeyDictionary()
_NUMBERS = count()
_NUMBERED: "WeakValueDictionary[int, Pattern]" = WeakValueDictionary()
_LIMITED: "WeakKeyDictionary[Pattern, dict[tuple[bool, int | None], Pattern]]" = WeakKeyDictionary()


class Pattern(ABC):
    """Which keys each query of a sequence may see. ``a & b`` allows what both allow, ``a | b`` what one of them does.

    Positions are those of the keys, and the last query is at the last key. A pattern is compared by identity, and
    remembers the blocks of the lengths that it was used at.

    A pattern of your own says who sees whom in ``allows``; that is exact by itself, and ``bounds`` makes it cheap:
    without it every pair is tested, once for each length.

    Example:
        >>> from regard.functional import patterns
        >>> pattern = patterns.sliding(2) | patterns.global_tokens([0])
        >>> pattern.mask(4, 4)[0, 0].int()
        tensor([[1, 1, 1, 1],
                [1, 1, 1, 0],
                [1, 1, 1, 1],
                [1, 0, 1, 1]], dtype=torch.int32)
        >>> pattern.num_pairs(4, 4)
        14
    """

    number: int
    """By which compiled code, which holds numbers and tensors alone, finds the pattern again: see ``numbered``."""

    def __new__(cls, *_: Any, **__: Any) -> "Pattern":
        """Make a pattern with a number of its own."""
        made = super().__new__(cls)
        object.__setattr__(made, "number", next(_NUMBERS))
        _NUMBERED[made.number] = made
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy gets: all but the number."""
        return {name: value for name, value in vars(self).items() if name != "number"}

    @abstractmethod
    def allows(self, queries: Int[Tensor, "*rows"], keys: Int[Tensor, "*keys"]) -> Bool[Tensor, "*pairs"]:
        """Return whether each query may see each key, for positions that broadcast, (…, rows, 1) and (…, 1, keys)."""

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether some and whether all pairs of two blocks are allowed, each bool (query blocks, key blocks).

        Both may err to the side that costs time only: "some" may be True where no pair is, "all" may be False.

        Args:
            queries: positions (query blocks, block); -1 is nobody.
            keys: likewise (key blocks, block).
        """
        shape = (len(queries), len(keys))
        return torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)

    def wide(self, kv_len: int) -> tuple[Tensor, Tensor]:
        """Return which queries, and which keys, meet far more than their neighbours, each bool (kv_len,)."""
        nobody = torch.zeros(kv_len, dtype=torch.bool)
        return nobody, nobody

    @property
    def batch(self) -> int:
        """How many sequences the pattern tells apart; 1 where it is the same for all."""
        return 1

    def sequences(self, start: int, stop: int) -> "Pattern":
        """Return the pattern of some sequences, where it tells them apart."""
        return self

    def sequence(self, index: int) -> "Pattern":
        """Return the pattern of one sequence; the same where it does not tell them apart."""
        return self.sequences(index, index + 1)

    def check(self, q_len: int, kv_len: int) -> None:
        """Raise ``ArgumentError`` for lengths that the pattern does not fit."""
        if q_len > kv_len:
            raise ArgumentError(
                f"A pattern needs at least as many keys as queries, got {q_len} queries and {kv_len} keys; "
                "its last query is at the last key."
            )

    def __and__(self, other: "Pattern") -> "Pattern":
        """Return the pattern that allows what both allow."""
        return _Joined((self, other), every=True)

    def __or__(self, other: "Pattern") -> "Pattern":
        """Return the pattern that allows what either allows."""
        return _Joined((self, other), every=False)

    # what it comes to at some length

    def mask(self, q_len: int, kv_len: int) -> Bool[Tensor, "_batch 1 q_len kv_len"]:
        """Return the pattern as a keep mask of q_len × kv_len, for tests and small inputs.

        Raises:
            ArgumentError: lengths that the pattern does not fit.
        """
        self.check(q_len, kv_len)
        queries, keys = torch.arange(kv_len - q_len, kv_len)[:, None], torch.arange(kv_len)[None]
        masks = [self.sequence(index).allows(queries, keys).expand(q_len, kv_len) for index in range(self.batch)]
        return torch.stack(masks)[:, None]

    def num_allowed(self, q_len: int, kv_len: int) -> Int[Tensor, "_batch q_len"]:
        """Return how many keys each query may see, without a matrix."""
        return torch.stack([layout.num_allowed for layout in layouts_of(self, q_len, kv_len)])

    def num_pairs(self, q_len: int, kv_len: int) -> int:
        """Return how many pairs the pattern allows, of all sequences that it tells apart, for one head."""
        return int(self.num_allowed(q_len, kv_len).sum())

    def num_computed(self, q_len: int, kv_len: int) -> int:
        """Return how many pairs lie in the blocks that are computed; at least ``num_pairs``."""
        return sum(layout.num_computed for layout in layouts_of(self, q_len, kv_len))

    def blocks(self, q_len: int, kv_len: int, sequence: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Return each block of query rows with the blocks of keys that it touches.

        Rows are counted from the first query, blocks of keys from the first block; those of wide keys come first.
        """
        return layouts_of(self, q_len, kv_len)[sequence].block_lists


@dataclass(frozen=True, eq=False, repr=False)
class _Joined(Pattern):
    """Two or more patterns, of which ``every`` or any has to allow."""

    parts: tuple[Pattern, ...]
    every: bool

    def __post_init__(self) -> None:
        told_apart = {part.batch for part in self.parts} - {1}
        if len(told_apart) > 1:
            raise ArgumentError(
                f"Patterns that are joined must tell apart as many sequences, got {sorted(told_apart)}."
            )

    def __repr__(self) -> str:
        return f"({(' & ' if self.every else ' | ').join(map(repr, self.parts))})"

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        found = self.parts[0].allows(queries, keys)
        for part in self.parts[1:]:
            other = part.allows(queries, keys)
            found = found & other if self.every else found | other
        return found

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        some, every = self.parts[0].bounds(queries, keys)
        for part in self.parts[1:]:
            others = part.bounds(queries, keys)
            some, every = (some & others[0], every & others[1]) if self.every else (some | others[0], every | others[1])
        return some, every

    def wide(self, kv_len: int) -> tuple[Tensor, Tensor]:
        queries, keys = zip(*(part.wide(kv_len) for part in self.parts), strict=True)
        return torch.stack(queries).any(0), torch.stack(keys).any(0)

    @property
    def batch(self) -> int:
        return max(part.batch for part in self.parts)

    def sequences(self, start: int, stop: int) -> Pattern:
        if self.batch == 1:
            return self
        return _Joined(tuple(part.sequences(start, stop) for part in self.parts), every=self.every)

    def check(self, q_len: int, kv_len: int) -> None:
        for part in self.parts:
            part.check(q_len, kv_len)


@dataclass(frozen=True, eq=False)
class Near(Pattern):
    """Keys less than ``back`` positions before a query and less than ``ahead`` behind it, itself included; None: all.

    ``back=None, ahead=1`` is causal.
    """

    back: int | None
    ahead: int | None

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return whether keys are near enough."""
        apart = queries - keys
        found = torch.ones_like(apart, dtype=torch.bool) if self.back is None else apart < self.back
        return found if self.ahead is None else found & (apart > -self.ahead)

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether some and whether all keys of two blocks are."""
        rows, columns = Extent.of(queries), Extent.of(keys)
        least, most = rows.low[:, None] - columns.high, rows.high[:, None] - columns.low
        some, every = torch.ones_like(least, dtype=torch.bool), torch.ones_like(least, dtype=torch.bool)
        if self.back is not None:
            some, every = some & (least < self.back), every & (most < self.back)
        if self.ahead is not None:
            some, every = some & (most > -self.ahead), every & (least > -self.ahead)
        return some, every


def layouts_of(pattern: Pattern, q_len: int, kv_len: int) -> list[Layout]:
    """Return the blocks of each sequence that the pattern tells apart; kept for the next call of these lengths.

    Raises:
        ArgumentError: lengths that the pattern does not fit.
    """
    kept = _LAYOUTS.setdefault(pattern, OrderedDict())
    found = kept.get((q_len, kv_len))
    if found is None:
        pattern.check(q_len, kv_len)
        positions = torch.arange(kv_len - q_len, kv_len)
        found = [Layout(pattern.sequence(index), positions, kv_len) for index in range(pattern.batch)]
        kept[q_len, kv_len] = found
        if len(kept) > _REMEMBERED:
            kept.popitem(last=False)
    return found


def numbered(number: int) -> Pattern:
    """Return the pattern of this number.

    Raises:
        ArgumentError: it is gone.
    """
    found = _NUMBERED.get(number)
    if found is None:
        raise ArgumentError(
            f"A pattern must be held until compiled code has computed its gradients, got none of number {number} "
            "any more; keep it in a module or a variable."
        )
    return found


def check_sequences(pattern: Pattern, batch: int, q_len: int, kv_len: int) -> None:
    """Raise ``ArgumentError`` for a batch or lengths that the pattern does not fit."""
    pattern.check(q_len, kv_len)
    if pattern.batch not in (1, batch):
        raise ArgumentError(f"The pattern must tell apart 1 or {batch} sequences, got {pattern.batch}.")


def as_window(pattern: Pattern, causal: bool, window: int | None) -> tuple[Pattern | None, int | None]:
    """Return None and the window that says the same as pattern and window, or both as they are where none does."""
    if not isinstance(pattern, Near) or pattern.back is None or not (causal or pattern.back == pattern.ahead):
        return pattern, window
    return None, pattern.back if window is None else min(window, pattern.back)


def limited(pattern: Pattern, causal: bool, window: int | None) -> Pattern:
    """Return the pattern with causality and window joined to it; the same object for the same ones."""
    if not causal and window is None:
        return pattern
    kept = _LIMITED.setdefault(pattern, {})
    if (causal, window) not in kept:
        kept[causal, window] = _Joined((pattern, Near(window, 1 if causal else window)), every=True)
    return kept[causal, window]
