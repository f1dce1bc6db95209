"""The encoder–decoder Transformer: one stack reads a sequence, another writes the next and looks at the first."""

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import linear
from regard.models.initialise import initialise
from regard.models.inputs import check_ids, check_rows, padding_mask, stands_right
from regard.models.transformer_config import TransformerConfig
from regard.models.transformer_session import TransformerCache, TransformerSession
from regard.modules import (
    DecoderBlock,
    DynamicCache,
    FastDropout,
    FeedForward,
    KeyValueCache,
    LearnedPositions,
    MultiHeadAttention,
    ResidualAttention,
    SinusoidalPositions,
)
from regard.modules.cache.protocol import Tokens

__all__ = ["Transformer"]


class Transformer(nn.Module):
    """The Transformer of "Attention is all you need": embeddings, encoder, decoder, output projection.

    Attention layers are called ``encoder.layer.<n>.attention``, ``decoder.layer.<n>.self_attention`` and
    ``decoder.layer.<n>.cross_attention``. Embeddings are multiplied by √embed_dim before positions are added.
    ``forward`` trains: it gives the logits of every next token at once. To write, encode the source once and go on
    from there: see ``encode``, ``decode`` and ``logits``.

    Args:
        config: sizes and rates.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762.

    Example:
        >>> config = TransformerConfig(vocab_size=99, embed_dim=32, num_heads=4, feed_forward_dim=64)
        >>> model = Transformer(config)
        >>> model(torch.tensor([[17, 3, 2]]), torch.tensor([[1, 40, 41, 42]])).shape
        torch.Size([1, 4, 99])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        source = _Embeddings(config, config.vocab_size)
        target = source if config.tied_embeddings == "all" else _Embeddings(config, config.output_size)
        self.source_embeddings = source
        self.target_embeddings = target
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        tied = config.tied_embeddings != "none"
        self.output = None if tied else nn.Linear(config.embed_dim, config.output_size, bias=False)
        self.apply(initialise)
        for embeddings in (source, target):
            embeddings.reset_parameters()

    def forward(
        self,
        input_ids: Int[Tensor, "batch source_len"],
        decoder_input_ids: Int[Tensor, "rows len"],
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: TransformerCache | None = None,
        logits_at: Bool[Tensor, "rows len"] | None = None,
    ) -> Float[Tensor, "*tokens vocab_size"]:
        """Return the logits of the token that follows each of ``decoder_input_ids``, (batch, len, vocab_size).

        Args:
            input_ids: token ids of the source.
            decoder_input_ids: token ids of the target, beginning with ``bos_id`` and without their last one; with a
                cache, the new ones alone.
            attention_mask: bool or 0/1 whole numbers (batch, source_len), 1 = real token of the source. Places are
                counted over real tokens, so padding may stand anywhere.
            decoder_attention_mask: the same of the target, over ``decoder_input_ids``. Logits at padding mean nothing.
            cache: what ``new_cache`` made, for inference. The first call puts the source into it; later ones look at
                ``decoder_input_ids`` and their mask only.
            logits_at: the tokens whose logits are asked for, of all rows one behind the other, (tokens, vocab_size):
                the projection to the vocabulary, often the largest of all, is then not made of padding. None for all.

        Raises:
            ArgumentError: an id outside the vocabulary, too long a sequence, two sides of unlike batches, or a mask of
                another shape.
            DtypeError: a mask of floats.
        """
        if cache is not None and cache.length:
            context = attention_mask = None
        else:
            context = self.encode(input_ids, attention_mask)
        hidden = self.decode(
            decoder_input_ids,
            context,
            attention_mask=attention_mask,
            decoder_attention_mask=decoder_attention_mask,
            cache=cache,
        )
        return self.logits(hidden if logits_at is None else hidden[logits_at])

    def encode(
        self, input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch source_len embed_dim"]:
        """Return what the decoder looks at; the arguments are those of ``forward``."""
        config = self.config
        check_ids(input_ids, name="input_ids", size=config.vocab_size, what="vocabulary", max_len=config.max_len)
        padding = padding_mask(attention_mask, input_ids.shape)
        places = Tokens().positions(input_ids.shape[1], None if padding is None else ~padding)
        context: Tensor = self.encoder(self.source_embeddings(input_ids, places), padding=padding)
        return context

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "rows len"],
        context: Float[Tensor, "batch source_len embed_dim"] | None = None,
        *,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: TransformerCache | None = None,
    ) -> Float[Tensor, "rows len embed_dim"]:
        """Return the decoder's hidden states, of which ``logits`` makes logits.

        Args:
            decoder_input_ids: as for ``forward``.
            context: what ``encode`` gave; None where the cache holds it.
            attention_mask: that of ``encode``; None where the cache holds the context.
            decoder_attention_mask: as for ``forward``.
            cache: as for ``forward``.

        Raises:
            ArgumentError: as for ``forward``, or a context that is missing or given twice.
        """
        past = 0 if cache is None else cache.length
        padding = self._check_target(decoder_input_ids, decoder_attention_mask, past)
        if context is not None:
            check_rows(decoder_input_ids, len(context), name="decoder_input_ids")
        elif cache is None:
            raise ArgumentError("The decoder needs a context or a cache that holds one, got neither; call encode().")
        places = (Tokens() if cache is None else cache.own).positions(
            decoder_input_ids.shape[1], None if padding is None else ~padding
        )
        hidden: Tensor = self.decoder(
            self.target_embeddings(decoder_input_ids, places, past),
            context,
            # No real token of a causal layer sees padding on its right, unless the sequence goes on behind it.
            padding=None if cache is None and stands_right(padding) else padding,
            context_padding=None if context is None else padding_mask(attention_mask, context.shape[:2]),
            cache=cache,
        )
        return hidden

    def logits(self, hidden: Float[Tensor, "*batch embed_dim"]) -> Float[Tensor, "*batch vocab_size"]:
        """Return the logits of the next token for each hidden state."""
        weight = self.target_embeddings.tokens.weight if self.output is None else self.output.weight
        return linear(hidden, weight)

    def new_cache(self, make: Callable[[], KeyValueCache] = DynamicCache) -> TransformerCache:
        """Return an empty cache: for each layer of the decoder what ``make`` gives, and one for the source."""
        return TransformerCache(self.config.num_decoder_layers, make)

    def session(
        self, input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> TransformerSession:
        """Return what ``generate`` and ``beam_search`` take: this model and one batch of sources, read already.

        Prompts of such a session begin with ``bos_id``.

        Raises:
            ArgumentError: the model is in training mode, or an input that ``encode`` refuses.
        """
        return TransformerSession(self, input_ids, attention_mask)

    def _check_target(self, ids: Tensor, mask: Tensor | None, past: int) -> Tensor | None:
        config, name = self.config, "decoder_input_ids"
        if past + ids.shape[-1] > config.max_len:
            behind = f" behind {past} cached ones" if past else ""
            raise ArgumentError(
                f"decoder_input_ids must hold at most {config.max_len} tokens a row, got {ids.shape[-1]}{behind}; "
                "cut the sequences."
            )
        check_ids(ids, name=name, size=config.output_size, what="vocabulary", max_len=config.max_len)
        return padding_mask(mask, ids.shape, name="decoder_attention_mask")


class _Embeddings(nn.Module):
    """√embed_dim · embedding of the token + position, with dropout."""

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.scale = math.sqrt(config.embed_dim)
        self.tokens = nn.Embedding(vocab_size, config.embed_dim)
        self.positions: LearnedPositions | SinusoidalPositions = (
            LearnedPositions(config.max_len, config.embed_dim)
            if config.positions == "learned"
            else SinusoidalPositions(config.embed_dim)
        )
        self.dropout = FastDropout(config.dropout_p)

    def reset_parameters(self) -> None:
        """Draw embeddings that have about unit size once they are scaled, and give logits of unit size where tied."""
        nn.init.normal_(self.tokens.weight, std=1 / self.scale)

    def forward(
        self, ids: Int[Tensor, "batch len"], places: Int[Tensor, "*sequences len"], past: int = 0
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the vectors of ``ids``, which stand at ``places``, (len,) or (batch, len), behind ``past`` others."""
        weight, end = self.tokens.weight, past + ids.shape[1]
        table = self._table(end)
        # Without padding the places are one piece of the table.
        vectors = table[past:end] if places.ndim == 1 else F.embedding(places.to(weight.device), table)
        embedded: Tensor = self.dropout(self.tokens(ids) * self.scale + vectors.to(weight))
        return embedded

    def _table(self, length: int) -> Tensor:
        """Return the vectors of the places from 0 on, ``length`` of them or more."""
        if isinstance(self.positions, LearnedPositions):
            return self.positions.weight
        return self.positions.table(length, device=self.tokens.weight.device)


class _Encoder(nn.Module):
    """A stack of layers of self-attention."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_encoder_layer(config) for _ in range(config.num_encoder_layers))
        self.norm = _final_norm(config)

    def forward(
        self, hidden: Float[Tensor, "batch len embed_dim"], *, padding: Bool[Tensor, "batch len"] | None = None
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer."""
        for layer in self.layer:
            hidden = layer(hidden, key_padding_mask=padding)
        return hidden if self.norm is None else self.norm(hidden)


class _Decoder(nn.Module):
    """A stack of layers of causal self-attention and of attention to the encoder's states."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_decoder_layer(config) for _ in range(config.num_decoder_layers))
        self.norm = _final_norm(config)

    def forward(
        self,
        hidden: Float[Tensor, "batch len embed_dim"],
        context: Float[Tensor, "batch source_len embed_dim"] | None,
        *,
        padding: Bool[Tensor, "batch len"] | None = None,
        context_padding: Bool[Tensor, "batch source_len"] | None = None,
        cache: TransformerCache | None = None,
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer."""
        caches = [(None, None)] * len(self.layer) if cache is None else cache.layers()
        for layer, (own, cross) in zip(self.layer, caches, strict=True):
            hidden = layer(
                hidden,
                context,
                key_padding_mask=padding,
                context_padding_mask=context_padding,
                cache=own,
                context_cache=cross,
            )
        return hidden if self.norm is None else self.norm(hidden)


def _final_norm(config: TransformerConfig) -> nn.LayerNorm | None:
    return nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps) if config.has_final_norm else None


def _attention(config: TransformerConfig, *, causal: bool = False) -> MultiHeadAttention:
    return MultiHeadAttention(config.embed_dim, config.num_heads, dropout_p=config.attention_dropout_p, causal=causal)


def _encoder_layer(config: TransformerConfig) -> ResidualAttention:
    return ResidualAttention(_attention(config), _feed_forward(config), **_residual(config))


def _decoder_layer(config: TransformerConfig) -> DecoderBlock:
    own, cross = _attention(config, causal=True), _attention(config)
    return DecoderBlock(own, cross, _feed_forward(config), **_residual(config))


def _feed_forward(config: TransformerConfig) -> FeedForward:
    return FeedForward(config.embed_dim, config.feed_forward_dim, activation=config.activation)


def _residual(config: TransformerConfig) -> dict[str, Any]:
    return {"norm": config.norm, "dropout_p": config.dropout_p, "layer_norm_eps": config.layer_norm_eps}
