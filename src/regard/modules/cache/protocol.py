"""What attention asks of a cache, and what every cache of keys and values knows of its tokens."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard._errors import ArgumentError, DtypeError

__all__ = ["Attended", "KeyValueCache", "Shape", "Tokens", "check_inference"]


class Attended(NamedTuple):
    """What the queries of a step attend to.

    Attributes:
        key: (batch, kv_heads, kv_len, head_dim), rotated where the layer rotates; the step's own are the last.
        value: (batch, kv_heads, kv_len, value_dim).
        keep: bool, True = may attend, broadcasts to (batch, 1, q_len, kv_len); None where causality hides all that is
            to be hidden.
    """

    key: Float[Tensor, "batch kv_heads kv_len head_dim"]
    value: Float[Tensor, "batch kv_heads kv_len value_dim"]
    keep: Bool[Tensor, "_batch 1 _q_len kv_len"] | None


@runtime_checkable
class KeyValueCache(Protocol):
    """The keys and values of one layer: what ``MultiHeadAttention`` takes as ``cache``.

    A step gives ``append`` its keys and values and attends to what comes back, aligned at the end: the last query
    belongs to the last key. Two layers never share one; ``CacheStack`` holds those of a model.
    """

    @property
    def length(self) -> int:
        """Return how many tokens were appended, padding included."""

    @property
    def num_bytes(self) -> int:
        """Return the memory that keys and values take, in bytes, what is allocated ahead included."""

    @property
    def max_len(self) -> int | None:
        """Return how many tokens can be appended in all, None for any number."""

    def positions(self, q_len: int, keep: Tensor | None = None) -> Int[Tensor, "*sequences q_len"]:
        """Return the places of the next ``q_len`` tokens, counted over real tokens of each sequence from 0.

        Without any padding so far they are (q_len,). ``keep`` is that of ``append``.
        """

    def append(
        self,
        key: Float[Tensor, "batch kv_heads q_len head_dim"],
        value: Float[Tensor, "batch kv_heads q_len value_dim"],
        keep: Tensor | None = None,
    ) -> Attended:
        """Take the keys and values of the next tokens; ``keep`` is True = real token, None for no padding."""

    def held(self) -> Attended:
        """Return keys and values as they are attended to, without adding any."""

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""

    def room(self, length: int) -> int:
        """Return how many tokens of a sequence there will be room for once ``length`` were appended."""

    def token_bytes(self, width: int, dtype: torch.dtype) -> int:
        """Return the bytes of one key or value of ``width`` numbers of ``dtype``."""


class Tokens:
    """How many tokens the sequences of a cache have, and which of them are real.

    Attributes:
        length: tokens of each sequence, padding included.
        keep: bool (batch, length), True = real token; None as long as nothing was padded.
    """

    def __init__(self) -> None:
        self.length = 0
        self.keep: Tensor | None = None

    def positions(self, q_len: int, keep: Tensor | None) -> Tensor:
        """Return the places of the next tokens, (q_len,) without padding and else (batch, q_len)."""
        if self.keep is None and keep is None:
            return torch.arange(self.length, self.length + q_len)
        past = self.length if self.keep is None else self.keep.sum(1, keepdim=True)
        if keep is None:
            assert isinstance(past, Tensor), "there is padding, in the cache or in the step"
            return past + torch.arange(q_len, device=past.device)
        # A token that is padding has the place of the real one before it, or the first.
        return (past + keep.cumsum(1) - 1).clamp_min(0)

    def add(self, key: Tensor, keep: Tensor | None) -> None:
        """Count the tokens of ``key`` (batch, heads, q_len, width).

        Raises:
            ArgumentError: a mask that does not lie over the new tokens.
            DtypeError: a mask that is not boolean.
        """
        batch, _, q_len, _ = key.shape
        if keep is not None and keep.dtype != torch.bool:
            raise DtypeError(f"keep must be boolean with True = real token, got {keep.dtype}; convert it.")
        if keep is not None and keep.shape != (batch, q_len):
            raise ArgumentError(
                f"keep must lie over the new tokens alone, (batch, q_len) = {(batch, q_len)}, got {tuple(keep.shape)}; "
                "a cache remembers the padding of the earlier ones."
            )
        if self.keep is not None or keep is not None:
            before = torch.ones(batch, self.length, dtype=torch.bool, device=key.device)
            now = torch.ones(batch, q_len, dtype=torch.bool, device=key.device)
            self.keep = torch.cat((before if self.keep is None else self.keep, now if keep is None else keep), 1)
        self.length += q_len

    def check_not_empty(self) -> None:
        """Raise ``ArgumentError`` where nothing was appended yet."""
        if not self.length:
            raise ArgumentError("The cache must hold a token, got an empty one; give it a prompt first.")

    def select(self, rows: Tensor) -> None:
        """Keep the sequences ``rows``."""
        if self.keep is not None:
            self.keep = self.keep.index_select(0, rows)


class Shape:
    """What all keys and values of a cache have in common."""

    def __init__(self) -> None:
        self._seen: tuple[object, ...] | None = None

    def check(self, key: Tensor, value: Tensor) -> None:
        """Look at a step's keys and values.

        Raises:
            ArgumentError: they differ from those before in more than their number, or gradients are recorded.
        """
        check_inference(key, value)
        found = (*key.shape[:2], key.shape[3], value.shape[3], key.dtype)
        if self._seen is None:
            self._seen = found
        elif found != self._seen:
            raise ArgumentError(
                f"A step must have the cache's (batch, kv_heads, head_dim, value_dim, dtype) {self._seen}, "
                f"got {found}; begin another cache."
            )

    def select(self, rows: Tensor) -> None:
        """Let the batch be ``rows``."""
        if self._seen is not None:
            self._seen = (len(rows), *self._seen[1:])


def check_inference(key: Tensor, value: Tensor) -> None:
    """Refuse tensors that want gradients: what is written over cannot be differentiated.

    Raises:
        ArgumentError: gradients are recorded.
    """
    if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
        raise ArgumentError(
            "A cache is for inference, got keys or values that require a gradient; "
            "call the model under torch.inference_mode() or torch.no_grad()."
        )
