"""An encoder–decoder while it writes: the source, read once, and what it has written so far."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules import CacheStack, CrossAttentionCache, KeyValueCache

if TYPE_CHECKING:
    from regard.models.transformer import Transformer

__all__ = ["TransformerCache", "TransformerSession"]


class TransformerCache:
    """For each layer of a decoder, the keys and values of its own tokens and those of the source.

    Args:
        num_layers: of the decoder.
        make: gives an empty cache for one layer's own tokens.

    Attributes:
        own: caches of self-attention.
        cross: caches of cross-attention.
    """

    def __init__(self, num_layers: int, make: Callable[[], KeyValueCache]) -> None:
        self.own = CacheStack(make() for _ in range(num_layers))
        self.cross = tuple(CrossAttentionCache() for _ in range(num_layers))

    @property
    def length(self) -> int:
        """Return how many tokens of the target are held, padding included."""
        return self.own.length

    @property
    def num_bytes(self) -> int:
        """Return the memory of all layers, in bytes."""
        return self.own.num_bytes + sum(cache.num_bytes for cache in self.cross)

    def layers(self) -> Iterator[tuple[KeyValueCache, CrossAttentionCache]]:
        """Iterate over both caches of each layer."""
        return zip(self.own, self.cross, strict=True)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows``, in that order; one may be left out, or taken several times."""
        self.own.select(rows)
        for cache in self.cross:
            cache.select(rows)


class TransformerSession:
    """An encoder–decoder, a batch of sources that it has read, and what it writes; meets ``Session``.

    Args:
        model: in evaluation mode.
        input_ids: token ids of the sources.
        attention_mask: 1 = real token of the sources.

    Raises:
        ArgumentError: the model is in training mode, or an input that ``encode`` refuses.
    """

    def __init__(
        self, model: "Transformer", input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> None:
        if model.training:
            raise ArgumentError("Generation needs a model in evaluation mode, got one in training; call model.eval().")
        self._model, self._mask = model, attention_mask
        with torch.inference_mode():
            self._context: Tensor | None = model.encode(input_ids, attention_mask)
        self.cache = model.new_cache()

    @property
    def length(self) -> int:
        """Return how many tokens of the target were fed, padding included."""
        return self.cache.length

    @property
    def max_len(self) -> int:
        """Return how many tokens of the target the model takes."""
        return self._model.config.max_len

    @torch.inference_mode()
    def feed(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch vocab_size"]:
        """Take the next tokens of each target and return the logits of the one after them."""
        hidden = self._model.decode(
            input_ids,
            self._context,
            attention_mask=self._mask,
            decoder_attention_mask=attention_mask,
            cache=self.cache,
        )
        self._context = self._mask = None  # the cache holds what is needed of them
        return self._model.logits(hidden[:, -1])

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the sequences ``rows``, in that order."""
        if self._context is not None:
            self._context = self._context.index_select(0, rows)
            self._mask = None if self._mask is None else self._mask.index_select(0, rows)
        self.cache.select(rows)
