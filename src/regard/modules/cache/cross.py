"""The keys and values of another sequence, made once: what a decoder asks at every step."""

from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules.cache.protocol import Attended, check_inference

__all__ = ["CrossAttentionCache"]


class CrossAttentionCache:
    """Keeps the keys and values that cross-attention made of its context, such as an encoder's states.

    The first call of a layer gives it the context and its padding; the later ones leave both out, so that a context
    that changed cannot be mistaken for the one that is kept.

    Example:
        >>> from regard.modules import MultiHeadAttention
        >>> layer, cache = MultiHeadAttention(8, 2).eval(), CrossAttentionCache()
        >>> with torch.inference_mode():
        ...     first = layer(torch.zeros(1, 1, 8), torch.zeros(1, 5, 8), cache=cache)
        ...     second = layer(torch.zeros(1, 1, 8), cache=cache)
        >>> cache.length
        5
    """

    def __init__(self) -> None:
        self._held: Attended | None = None

    @property
    def length(self) -> int:
        """Return the length of the context, 0 before it was given."""
        return 0 if self._held is None else self._held.key.shape[2]

    @property
    def num_bytes(self) -> int:
        """Return the memory of keys and values, in bytes."""
        return 0 if self._held is None else self._held.key.nbytes + self._held.value.nbytes

    def fill(
        self,
        key: Float[Tensor, "batch kv_heads kv_len head_dim"],
        value: Float[Tensor, "batch kv_heads kv_len value_dim"],
        keep: Tensor | None = None,
    ) -> Attended:
        """Take the keys and values of the whole context, once.

        Raises:
            ArgumentError: there are some already, or gradients are recorded.
        """
        if self._held is not None:
            raise ArgumentError(
                "A cross-attention cache must be filled once, got a second context; begin another cache for it."
            )
        check_inference(key, value)
        self._held = Attended(key, value, keep)
        return self._held

    def held(self) -> Attended:
        """Return keys, values and which of them are real.

        Raises:
            ArgumentError: the context was not given yet.
        """
        if self._held is None:
            raise ArgumentError(
                "The cache must hold a context, got an empty one; give the layer one at its first call."
            )
        return self._held

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""
        if self._held is not None:
            key, value, keep = self._held
            picked = None if keep is None else keep.index_select(0, rows)
            self._held = Attended(key.index_select(0, rows), value.index_select(0, rows), picked)
