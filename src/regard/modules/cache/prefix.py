"""A prompt that many sequences begin with, kept once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules.cache.protocol import Attended, KeyValueCache
from regard.modules.cache.window import SlidingWindowCache

__all__ = ["PrefixCache"]


class PrefixCache:
    """Continues behind the keys and values of a shared beginning, which is neither computed nor kept again.

    Any number of these may stand on one ``prefix``, at the same time or one after the other; none changes it. Their
    batch may be larger than its single sequence.

    Args:
        prefix: a cache with the shared beginning, of one sequence; it must not be appended to any more.
        own: an empty cache for what follows, of any kind but a sliding window.

    Raises:
        ArgumentError: an empty ``prefix`` or one of several sequences, or an ``own`` that is not empty or a
            sliding window.

    References:
        Juravsky et al., Hydragen: high-throughput LLM inference with shared prefixes, arXiv:2402.05099.
    """

    def __init__(self, prefix: KeyValueCache, own: KeyValueCache) -> None:
        if isinstance(own, SlidingWindowCache):
            raise ArgumentError("own must keep all of its tokens, got a SlidingWindowCache; give a DynamicCache.")
        if own.length:
            raise ArgumentError(f"own must be an empty cache, got one of {own.length} tokens.")
        held = prefix.held()
        if held.key.shape[0] != 1 or held.keep is not None or held.key.shape[2] != prefix.length:
            raise ArgumentError(
                "prefix must hold one sequence without padding and all of its tokens, "
                f"got {held.key.shape[0]} with {held.key.shape[2]} of {prefix.length} tokens."
            )
        self._prefix, self._own, self._prefix_len = prefix, own, prefix.length

    @property
    def length(self) -> int:
        """Return how many tokens there are, those of the prefix and padding included."""
        return self._prefix_len + self._own.length

    @property
    def num_bytes(self) -> int:
        """Return the memory of what follows the prefix; the prefix is counted where it is kept."""
        return self._own.num_bytes

    @property
    def max_len(self) -> int | None:
        """Return how many tokens there can be, those of the prefix included; None for any number."""
        return None if self._own.max_len is None else self._prefix_len + self._own.max_len

    def positions(self, q_len: int, keep: Tensor | None = None) -> Int[Tensor, "*sequences q_len"]:
        """Return the places of the next ``q_len`` tokens, counted over real tokens from the prefix's first."""
        return self._prefix_len + self._own.positions(q_len, keep)

    def append(
        self,
        key: Float[Tensor, "batch kv_heads q_len head_dim"],
        value: Float[Tensor, "batch kv_heads q_len value_dim"],
        keep: Tensor | None = None,
    ) -> Attended:
        """Take the keys and values of the next tokens and return the prefix and all that follows.

        Raises:
            ArgumentError: the prefix was appended to meanwhile, or what ``own`` refuses.
            DtypeError: a mask that is not boolean.
        """
        if self._prefix.length != self._prefix_len:
            raise ArgumentError(
                f"The prefix must stay as it was, {self._prefix_len} tokens, got {self._prefix.length}; "
                "continue with a PrefixCache instead of the cache itself."
            )
        return self._behind_prefix(self._own.append(key, value, keep))

    def held(self) -> Attended:
        """Return the prefix and what follows it."""
        return self._behind_prefix(self._own.held()) if self._own.length else self._prefix.held()

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""
        self._own.select(rows)

    def room(self, length: int) -> int:
        """Return how many tokens behind the prefix there will be room for once there are ``length`` with it."""
        return self._own.room(max(0, length - self._prefix_len))

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one key or value of ``width`` numbers of ``dtype``."""
        return self._own.token_bytes(width, dtype)

    def _behind_prefix(self, own: Attended) -> Attended:
        shared, batch = self._prefix.held(), own.key.shape[0]
        key, value = (
            torch.cat((before.expand(batch, -1, -1, -1), after), 2)
            for before, after in ((shared.key, own.key), (shared.value, own.value))
        )
        if own.keep is None:
            return Attended(key, value, None)
        everyone = torch.ones(*own.keep.shape[:3], self._prefix_len, dtype=torch.bool, device=key.device)
        return Attended(key, value, torch.cat((everyone, own.keep), 3))
