"""Tensors that grow along their token axis without being copied at each step, as they are or rounded to int8."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["GROWTH", "Int8Buffer", "TokenBuffer", "TokenStore"]

GROWTH = 128
"""Tokens that a buffer grows by.

A step reads the whole cache anyway, so a copy of it every 128 steps is below 2 % of what attention reads, whatever the
length; doubling would leave up to half of the memory unused.
"""


@runtime_checkable
class TokenStore(Protocol):
    """Holds (batch, heads, tokens, width)."""

    @property
    def num_bytes(self) -> int:
        """Return how much memory is allocated."""

    def write(self, new: Tensor, at: int) -> Tensor:
        """Put ``new`` behind the first ``at`` tokens; return all."""

    def filled(self, length: int) -> Tensor:
        """Return the first ``length`` tokens."""

    def select(self, rows: Tensor, length: int) -> None:
        """Keep the sequences ``rows``, whose first ``length`` tokens are filled."""

    def room(self, length: int) -> int:
        """Return how many tokens there will be room for once ``length`` were written."""

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one token of ``width`` numbers that come as ``dtype``."""


class TokenBuffer:
    """Keeps tokens as they are, in room for some more.

    Args:
        capacity: tokens that there is room for, allocated at the first write; None to grow as needed.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self._capacity = capacity
        self._room: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Return how much memory is allocated."""
        return 0 if self._room is None else self._room.nbytes

    def room(self, length: int) -> int:
        """Return how many tokens there will be room for once ``length`` were written."""
        return self._capacity or -(-length // GROWTH) * GROWTH

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one token of ``width`` numbers."""
        return width * dtype.itemsize

    def write(self, new: Tensor, at: int) -> Tensor:
        """Put ``new`` behind the first ``at`` tokens; return a view of all."""
        end = at + new.shape[2]
        room = self._room
        if room is None or room.shape[2] < end:
            assert self._capacity is None or end <= self._capacity, "the cache looks at its capacity before"
            room = self._moved(new, self.room(end), at)
        room[:, :, at:end] = new
        return room[:, :, :end]

    def filled(self, length: int) -> Tensor:
        """Return a view of the first ``length`` tokens."""
        assert self._room is not None, "something was written before"
        return self._room[:, :, :length]

    def select(self, rows: Tensor, length: int) -> None:
        """Keep the sequences ``rows``; only the first ``length`` tokens are moved."""
        if self._room is None:
            return
        picked = self._room[:, :, :length].index_select(0, rows)
        if len(rows) != len(self._room):
            self._moved(picked, self._room.shape[2], 0)
        self._room[:, :, :length] = picked

    def _moved(self, like: Tensor, capacity: int, filled: int) -> Tensor:
        """Allocate room for ``capacity`` tokens like those of ``like`` and move the first ``filled`` ones there."""
        batch, heads, _, width = like.shape
        # A tensor made under inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            room = torch.empty(batch, heads, capacity, width, dtype=like.dtype, device=like.device)
        if filled and self._room is not None:
            room[:, :, :filled] = self._room[:, :, :filled]
        self._room = room
        return room


class Int8Buffer:
    """Keeps tokens as int8, with one float32 factor for each token of each head: the largest absolute value / 127.

    An element x of a token comes back within max|token| / 254 of x.
    """

    def __init__(self) -> None:
        self._levels, self._factors = TokenBuffer(), TokenBuffer()
        self._dtype = torch.float32

    @property
    def num_bytes(self) -> int:
        """Return how much memory is allocated."""
        return self._levels.num_bytes + self._factors.num_bytes

    def room(self, length: int) -> int:
        """Return how many tokens there will be room for once ``length`` were written."""
        return self._levels.room(length)

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one token of ``width`` numbers, whatever their type: their levels and the factor."""
        return self._levels.token_bytes(width, torch.int8) + self._factors.token_bytes(1, torch.float32)

    def write(self, new: Tensor, at: int) -> Tensor:
        """Round ``new`` and put it behind the first ``at`` tokens; return all, as they are after rounding."""
        self._dtype = new.dtype
        exact = new.float()
        factors = exact.abs().amax(-1, keepdim=True) / 127
        # A token of zeros has the factor 0 and stays what it is.
        levels = (exact / factors.clamp_min(torch.finfo(torch.float32).tiny)).round_().clamp_(-127, 127)
        held = self._levels.write(levels.to(torch.int8), at)
        return self._restored(held, self._factors.write(factors, at))

    def filled(self, length: int) -> Tensor:
        """Return the first ``length`` tokens as they are after rounding."""
        return self._restored(self._levels.filled(length), self._factors.filled(length))

    def select(self, rows: Tensor, length: int) -> None:
        """Keep the sequences ``rows``."""
        self._levels.select(rows, length)
        self._factors.select(rows, length)

    def _restored(self, levels: Tensor, factors: Tensor) -> Tensor:
        return (levels * factors).to(self._dtype)
