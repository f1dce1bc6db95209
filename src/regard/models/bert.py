"""The BERT encoder."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regard.models.config import BertConfig
from regard.models.initialise import initialise
from regard.models.inputs import check_ids, check_shape, keep_mask
from regard.modules import FastDropout, FeedForward, LearnedPositions, MultiHeadAttention, ResidualAttention

__all__ = ["Bert"]


class Bert(nn.Module):
    """BERT: embeddings of words, positions and token types, then layers of self-attention with post-norm.

    Attention layers are called ``encoder.layer.<n>.attention``. Fresh weights are drawn to fit the width (see
    ``regard.models.initialise``); ``load_bert`` reads pretrained ones. There is no pooler: heads pool for themselves.

    Args:
        config: sizes and rates.
        attention_dtype: precision in which scores, softmax and weighted sums run, such as ``torch.float32`` under
            bfloat16 autocast; None for that of the hidden states.

    References:
        Devlin et al., BERT, arXiv:1810.04805.

    Example:
        >>> config = BertConfig(vocab_size=99, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64)
        >>> Bert(config)(torch.tensor([[2, 17, 3]])).shape
        torch.Size([1, 3, 32])
    """

    def __init__(self, config: BertConfig, *, attention_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(
            config.vocab_size,
            config.embed_dim,
            max_len=config.max_len,
            num_token_types=config.num_token_types,
            dropout_p=config.dropout_p,
            layer_norm_eps=config.layer_norm_eps,
        )
        self.encoder = _Encoder(_layer(config, attention_dtype) for _ in range(config.num_layers))
        self.apply(initialise)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer.

        Args:
            input_ids: token ids.
            attention_mask: bool or 0/1 whole numbers (batch, len), 1 = real token. Hidden states at the other places
                mean nothing. A mask without padding is dropped on a CPU, where attention without a mask is faster;
                compiled, or on another device, it is passed on, since looking into it would stop the device.
            token_type_ids: token type of each token (batch, len); None for type 0 throughout.

        Raises:
            ArgumentError: an id outside the vocabulary, too long a sequence, or a mask of another shape.
            DtypeError: a mask of floats.
        """
        config = self.config
        check_ids(input_ids, name="input_ids", size=config.vocab_size, what="vocabulary", max_len=config.max_len)
        if token_type_ids is not None:
            check_shape(token_type_ids, input_ids.shape, name="token_type_ids")
            check_ids(
                token_type_ids,
                name="token_type_ids",
                size=config.num_token_types,
                what="token types",
                max_len=config.max_len,
            )
        keep = keep_mask(attention_mask, input_ids.shape)
        hidden: Tensor = self.encoder(self.embeddings(input_ids, token_type_ids), attn_mask=keep)
        return hidden


class _Embeddings(nn.Module):
    """Word + position + token type embeddings, layer norm, dropout."""

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        *,
        max_len: int,
        num_token_types: int,
        dropout_p: float,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, embed_dim)
        self.positions = LearnedPositions(max_len, embed_dim)
        self.token_types = nn.Embedding(num_token_types, embed_dim)
        self.norm = nn.LayerNorm(embed_dim, eps=layer_norm_eps)
        self.dropout = FastDropout(dropout_p)

    def forward(
        self, input_ids: Int[Tensor, "batch len"], token_type_ids: Int[Tensor, "batch len"] | None
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the normed sum of the three embeddings."""
        places = self.positions(input_ids.shape[1])
        # One type for all tokens is added to the few positions, not to every token of the batch.
        types = self.token_types.weight[0] if token_type_ids is None else self.token_types(token_type_ids)
        embedded: Tensor = self.dropout(self.norm(self.words(input_ids) + (places + types)))
        return embedded


class _Encoder(nn.Module):
    """A stack of layers."""

    def __init__(self, layers: Iterable[ResidualAttention]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)

    def forward(
        self, hidden: Float[Tensor, "batch len embed_dim"], *, attn_mask: Tensor | None
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer."""
        for layer in self.layer:
            hidden = layer(hidden, attn_mask=attn_mask)
        return hidden


def _layer(config: BertConfig, attention_dtype: torch.dtype | None) -> ResidualAttention:
    attention = MultiHeadAttention(
        config.embed_dim, config.num_heads, dropout_p=config.attention_dropout_p, compute_dtype=attention_dtype
    )
    feed_forward = FeedForward(config.embed_dim, config.feed_forward_dim, activation=config.activation)
    return ResidualAttention(
        attention, feed_forward, norm="post", dropout_p=config.dropout_p, layer_norm_eps=config.layer_norm_eps
    )
