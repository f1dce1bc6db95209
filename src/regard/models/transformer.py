"""The encoder–decoder Transformer: one stack reads a sequence, another writes the next and looks at the first."""

import math
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard.models.initialise import initialise
from regard.models.inputs import check_ids, check_rows, padding_mask
from regard.models.transformer_config import TransformerConfig
from regard.modules import (
    DecoderBlock,
    FastDropout,
    FeedForward,
    LearnedPositions,
    MultiHeadAttention,
    ResidualAttention,
    SinusoidalPositions,
)

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
    ) -> Float[Tensor, "batch len vocab_size"]:
        """Return the logits of the token that follows each of ``decoder_input_ids``.

        Args:
            input_ids: token ids of the source.
            decoder_input_ids: token ids of the target, beginning with ``bos_id`` and without their last one.
            attention_mask: bool or 0/1 whole numbers (batch, source_len), 1 = real token of the source.
            decoder_attention_mask: the same of the target; not needed where padding stands on the right, as no real
                token sees a later one. Logits at padding mean nothing.

        Raises:
            ArgumentError: an id outside the vocabulary, too long a sequence, two sides of unlike batches, or a mask of
                another shape.
            DtypeError: a mask of floats.
        """
        context = self.encode(input_ids, attention_mask)
        hidden = self.decode(
            decoder_input_ids,
            context,
            attention_mask=attention_mask,
            decoder_attention_mask=decoder_attention_mask,
        )
        return self.logits(hidden)

    def encode(
        self, input_ids: Int[Tensor, "batch source_len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch source_len embed_dim"]:
        """Return what the decoder looks at; the arguments are those of ``forward``."""
        config = self.config
        check_ids(input_ids, name="input_ids", size=config.vocab_size, what="vocabulary", max_len=config.max_len)
        padding = padding_mask(attention_mask, input_ids.shape)
        context: Tensor = self.encoder(self.source_embeddings(input_ids), padding=padding)
        return context

    def decode(
        self,
        decoder_input_ids: Int[Tensor, "rows len"],
        context: Float[Tensor, "batch source_len embed_dim"],
        *,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the decoder's hidden states, of which ``logits`` makes logits.

        Args:
            decoder_input_ids: as for ``forward``.
            context: what ``encode`` gave.
            attention_mask: that of ``encode``.
            decoder_attention_mask: as for ``forward``.
        """
        config, name = self.config, "decoder_input_ids"
        check_ids(decoder_input_ids, name=name, size=config.output_size, what="vocabulary", max_len=config.max_len)
        check_rows(decoder_input_ids, len(context), name=name)
        hidden: Tensor = self.decoder(
            self.target_embeddings(decoder_input_ids),
            context,
            padding=padding_mask(decoder_attention_mask, decoder_input_ids.shape, name="decoder_attention_mask"),
            context_padding=padding_mask(attention_mask, context.shape[:2]),
        )
        return hidden

    def logits(self, hidden: Float[Tensor, "*batch embed_dim"]) -> Float[Tensor, "*batch vocab_size"]:
        """Return the logits of the next token for each hidden state."""
        weight = self.target_embeddings.tokens.weight if self.output is None else self.output.weight
        return F.linear(hidden, weight)


class _Embeddings(nn.Module):
    """√embed_dim · embedding of the token + position, with dropout."""

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.scale = math.sqrt(config.embed_dim)
        self.tokens = nn.Embedding(vocab_size, config.embed_dim)
        self.positions = (
            LearnedPositions(config.max_len, config.embed_dim)
            if config.positions == "learned"
            else SinusoidalPositions(config.embed_dim)
        )
        self.dropout = FastDropout(config.dropout_p)

    def reset_parameters(self) -> None:
        """Draw embeddings that have about unit size once they are scaled, and give logits of unit size where tied."""
        nn.init.normal_(self.tokens.weight, std=1 / self.scale)

    def forward(self, ids: Int[Tensor, "batch len"], offset: int = 0) -> Float[Tensor, "batch len embed_dim"]:
        """Return the vectors of ``ids``, the first of which stands at place ``offset``."""
        places = self.positions(ids.shape[1], offset)
        weight = self.tokens.weight
        embedded: Tensor = self.dropout(self.tokens(ids) * self.scale + places.to(weight))
        return embedded


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
        context: Float[Tensor, "batch source_len embed_dim"],
        *,
        padding: Bool[Tensor, "batch len"] | None = None,
        context_padding: Bool[Tensor, "batch source_len"] | None = None,
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer."""
        for layer in self.layer:
            hidden = layer(hidden, context, key_padding_mask=padding, context_padding_mask=context_padding)
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
