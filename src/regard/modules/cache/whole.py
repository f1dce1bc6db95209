"""Caches that keep every token: one that grows, one whose room is given once, and one that rounds to int8."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules.cache.buffer import Int8Buffer, TokenBuffer, TokenStore
from regard.modules.cache.protocol import Attended, Shape, Tokens

__all__ = ["DynamicCache", "Int8Cache", "StaticCache"]


class _WholeCache:
    """Keeps every token in two stores.

    Args:
        key: store of the keys.
        value: store of the values.
        max_len: most tokens, None for any number.
    """

    def __init__(self, key: TokenStore, value: TokenStore, max_len: int | None = None) -> None:
        self._tokens, self._shape = Tokens(), Shape()
        self._key, self._value = key, value
        self._max_len = max_len

    @property
    def length(self) -> int:
        """Return how many tokens were appended, padding included."""
        return self._tokens.length

    @property
    def num_bytes(self) -> int:
        """Return the memory that is allocated, in bytes."""
        return self._key.num_bytes + self._value.num_bytes

    @property
    def max_len(self) -> int | None:
        """Return how many tokens can be appended in all, None for any number."""
        return self._max_len

    def positions(self, q_len: int, keep: Tensor | None = None) -> Int[Tensor, "*sequences q_len"]:
        """Return the places of the next ``q_len`` tokens, counted over real tokens of each sequence from 0."""
        return self._tokens.positions(q_len, keep)

    def append(
        self,
        key: Float[Tensor, "batch kv_heads q_len head_dim"],
        value: Float[Tensor, "batch kv_heads q_len value_dim"],
        keep: Tensor | None = None,
    ) -> Attended:
        """Take the keys and values of the next tokens and return all.

        Raises:
            ArgumentError: another batch size or head width than before, a mask that does not fit, no room, or tensors
                that require a gradient.
            DtypeError: a mask that is not boolean.
        """
        at, needed = self._tokens.length, self._tokens.length + key.shape[2]
        if self._max_len is not None and needed > self._max_len:
            raise ArgumentError(
                f"The cache must have room for {needed} tokens, got max_len={self._max_len}; make a longer one."
            )
        self._shape.check(key, value)
        self._tokens.add(key, keep)
        return Attended(self._key.write(key, at), self._value.write(value, at), self._keep())

    def held(self) -> Attended:
        """Return all keys and values.

        Raises:
            ArgumentError: there are none.
        """
        self._tokens.check_not_empty()
        return Attended(self._key.filled(self.length), self._value.filled(self.length), self._keep())

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""
        self._key.select(rows, self.length)
        self._value.select(rows, self.length)
        self._tokens.select(rows)
        self._shape.select(rows)

    def room(self, length: int) -> int:
        """Return how many tokens of a sequence there will be room for once ``length`` were appended."""
        return self._key.room(length)

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one key or value of ``width`` numbers of ``dtype``."""
        return self._key.token_bytes(width, dtype)

    def _keep(self) -> Tensor | None:
        return None if self._tokens.keep is None else self._tokens.keep[:, None, None, :]


class DynamicCache(_WholeCache):
    """Keeps every key and value exactly, and grows as the sequence does.

    Room is added for 128 tokens at a time, so its memory is that of the length rounded up to the next 128.

    Example:
        >>> from regard.modules import MultiHeadAttention
        >>> layer, cache = MultiHeadAttention(8, 2, causal=True).eval(), DynamicCache()
        >>> with torch.inference_mode():
        ...     prompt = layer(torch.zeros(1, 5, 8), cache=cache)
        ...     step = layer(torch.zeros(1, 1, 8), cache=cache)
        >>> cache.length
        6
    """

    def __init__(self) -> None:
        super().__init__(TokenBuffer(), TokenBuffer())


class StaticCache(_WholeCache):
    """Keeps every key and value exactly, in room for ``max_len`` tokens that is allocated once, at the first step.

    Memory is known beforehand and no step copies what was there. A step that does not fit is refused before anything
    is written.

    Args:
        max_len: most tokens of a sequence, padding included.

    Raises:
        ArgumentError: room for no token.
    """

    def __init__(self, max_len: int) -> None:
        if max_len < 1:
            raise ArgumentError(f"max_len must be at least 1 token, got {max_len}.")
        super().__init__(TokenBuffer(max_len), TokenBuffer(max_len), max_len)


class Int8Cache(_WholeCache):
    """Keeps keys and values rounded to int8, with a float32 factor for each token of each head: a quarter of float32.

    An element x of a token comes back within max|token| / 254 of x; docs/caching.md states the error of a whole model.
    Each step restores the keys and values of one layer at a time, in the type that they came in.

    References:
        Dettmers et al., LLM.int8(), arXiv:2208.07339, section 2.1 (rounding by the absolute maximum).
    """

    def __init__(self) -> None:
        super().__init__(Int8Buffer(), Int8Buffer())
