"""The decoder: a causal language model, as GPT-2 and Llama are."""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError, CapacityWarning
from regard.functional import linear
from regard.models.decoder_config import DecoderConfig
from regard.models.initialise import initialise
from regard.models.inputs import check_ids, keep_mask
from regard.modules import (
    CacheShape,
    CacheStack,
    DynamicCache,
    FastDropout,
    FeedForward,
    KeyValueCache,
    LearnedPositions,
    MultiHeadAttention,
    ResidualAttention,
    make_norm,
)
from regard.modules.cache.protocol import Tokens

__all__ = ["Decoder", "DecoderSession"]


class Decoder(nn.Module):
    """A causal language model: embeddings, layers of self-attention with pre-norm, a last norm, logits of each word.

    Attention layers are called ``layers.<n>.attention``. Fresh weights are drawn to fit the width (see
    ``regard.models.initialise``); ``load_decoder`` reads those of GPT-2- and Llama-shaped folders.

    Args:
        config: sizes, parts and rates.

    References:
        Radford et al., Language models are unsupervised multitask learners (2019); Touvron et al., LLaMA,
        arXiv:2302.13971.

    Example:
        >>> config = DecoderConfig(vocab_size=99, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64)
        >>> Decoder(config)(torch.tensor([[2, 17, 3]])).shape
        torch.Size([1, 3, 99])
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.embed_dim)
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.max_len, config.embed_dim) if learned else None
        self.dropout = FastDropout(config.dropout_p)
        self.layers = nn.ModuleList(_layer(config) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm, config.embed_dim, config.norm_eps)
        tied = config.tied_embeddings
        self.output = None if tied else nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        self.apply(initialise)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        cache: CacheStack | None = None,
    ) -> Float[Tensor, "batch len vocab_size"]:
        """Return the logits of the token after each one.

        Args:
            input_ids: token ids; with a cache, of the new tokens alone.
            attention_mask: bool or 0/1 whole numbers (batch, len) over ``input_ids``, 1 = real token. Places are
                counted over real tokens, so padding may stand anywhere; logits there mean nothing. A cache remembers
                the padding of earlier tokens.
            cache: what ``new_cache`` made, for inference; the tokens continue those in it and are added to it.

        Raises:
            ArgumentError: an id outside the vocabulary, too long a sequence, a mask of another shape, or a cache of
                another model.
            DtypeError: a mask of floats.

        Warns:
            CapacityWarning: nine tenths of what model and cache have room for are passed.
        """
        if cache is not None:
            self._warn_near_end(input_ids.shape[1], cache)
        return self.logits(self.states(input_ids, attention_mask, cache))

    def states(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        cache: CacheStack | None = None,
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states that ``logits`` takes; the arguments are those of ``forward``."""
        past = self._past(cache)
        max_len = self.config.max_len
        if past + input_ids.shape[-1] > max_len:
            behind = f" behind {past} cached ones" if past else ""
            raise ArgumentError(
                f"The model takes at most {max_len} tokens, got {input_ids.shape[-1]}{behind}; cut the sequence."
            )
        check_ids(input_ids, name="input_ids", size=self.config.vocab_size, what="vocabulary", max_len=max_len)
        keep = keep_mask(attention_mask, input_ids.shape)
        real = None if keep is None else keep[:, 0, 0]
        places = (cache or Tokens()).positions(input_ids.shape[1], real).to(input_ids.device)
        hidden = self.dropout(self._embedded(input_ids, places, past))
        padding = None if real is None else ~real
        caches = [None] * len(self.layers) if cache is None else cache.layers
        turns = None if self.positions is not None or (cache is None and real is None) else places
        for layer, held in zip(self.layers, caches, strict=True):
            hidden = layer(hidden, key_padding_mask=padding, positions=turns, cache=held)
        normed: Tensor = self.norm(hidden)
        return normed

    def logits(self, states: Float[Tensor, "*batch embed_dim"]) -> Float[Tensor, "*batch vocab_size"]:
        """Return the logits of each word, unnormalised log-probabilities."""
        return linear(states, self.words.weight if self.output is None else self.output.weight)

    def new_cache(self, make: Callable[[], KeyValueCache] = DynamicCache) -> CacheStack:
        """Return an empty cache: what ``make`` gives, once for each layer.

        Example:
            >>> from regard.modules import StaticCache
            >>> config = DecoderConfig(vocab_size=99, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64)
            >>> len(Decoder(config).new_cache(lambda: StaticCache(256)))
            2
        """
        return CacheStack(make() for _ in self.layers)

    def session(self, cache: CacheStack | None = None) -> "DecoderSession":
        """Return what ``generate`` and ``beam_search`` take: this model with a cache, by default a ``DynamicCache``.

        Raises:
            ArgumentError: the model is in training mode.
        """
        return DecoderSession(self, self.new_cache() if cache is None else cache)

    @property
    def cache_shape(self) -> CacheShape:
        """Return what ``cache_bytes`` and ``longest_context`` ask about the model."""
        config = self.config
        return CacheShape(
            num_layers=config.num_layers,
            num_kv_heads=config.kv_heads,
            head_dim=config.width_per_head,
            dtype=self.words.weight.dtype,
        )

    def _warn_near_end(self, num_new: int, cache: CacheStack) -> None:
        limit = self.config.max_len if cache.max_len is None else min(self.config.max_len, cache.max_len)
        if 10 * cache.length <= 9 * limit < 10 * (cache.length + num_new) <= 10 * limit:
            warnings.warn(
                f"{cache.length + num_new} of the {limit} tokens that model and cache have room for are used; "
                "end the sequence in time, or go on with a longer cache.",
                CapacityWarning,
                stacklevel=5,
            )

    def _embedded(self, input_ids: Tensor, places: Tensor, past: int) -> Tensor:
        """Return the vectors of the words, with those of their places where they are learned."""
        words: Tensor = self.words(input_ids)
        if self.positions is None:
            return words
        # Without padding the places are one piece of the table.
        return words + (self.positions(len(places), past) if places.ndim == 1 else self.positions.weight[places])

    def _past(self, cache: CacheStack | None) -> int:
        if cache is None:
            return 0
        if len(cache) != len(self.layers):
            raise ArgumentError(
                f"The cache must have one part for each of the {len(self.layers)} layers, got {len(cache)}; "
                "make it with new_cache()."
            )
        return cache.length


class DecoderSession:
    """A decoder and the cache of the sequences that it continues; meets ``Session``.

    Args:
        model: in evaluation mode.
        cache: what its ``new_cache`` made; it may hold the beginning of the sequences already.

    Raises:
        ArgumentError: the model is in training mode.
    """

    def __init__(self, model: Decoder, cache: CacheStack) -> None:
        if model.training:
            raise ArgumentError("Generation needs a model in evaluation mode, got one in training; call model.eval().")
        self._model, self.cache = model, cache

    @property
    def length(self) -> int:
        """Return how many tokens the cache holds, padding included."""
        return self.cache.length

    @property
    def max_len(self) -> int:
        """Return how many tokens model and cache take."""
        limit = self._model.config.max_len
        return limit if self.cache.max_len is None else min(limit, self.cache.max_len)

    @torch.inference_mode()
    def feed(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch vocab_size"]:
        """Take the next tokens and return the logits of the one after them."""
        states = self._model.states(input_ids, attention_mask, self.cache)
        # Of a prompt, only the last token's logits are asked for: the rest would be the largest tensor of all.
        return self._model.logits(states[:, -1])

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the sequences ``rows``, in that order."""
        self.cache.select(rows)


def _layer(config: DecoderConfig) -> ResidualAttention:
    attention = MultiHeadAttention(
        config.embed_dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        bias=config.attention_bias,
        dropout_p=config.attention_dropout_p,
        causal=True,
        rotary=config.rotary_base if config.positions == "rotary" else None,
    )
    feed_forward = FeedForward(
        config.embed_dim, config.feed_forward_dim, activation=config.activation, bias=config.feed_forward_bias
    )
    return ResidualAttention(
        attention,
        feed_forward,
        norm="pre",
        dropout_p=config.dropout_p,
        norm_kind=config.norm,
        layer_norm_eps=config.norm_eps,
    )
