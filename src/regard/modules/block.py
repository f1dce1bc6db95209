"""A Transformer layer: attention and perhaps a feed-forward network, each with residual, norm and dropout."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.modules.cache import CrossAttentionCache, KeyValueCache
from regard.modules.dropout import FastDropout
from regard.modules.feed_forward import FeedForward
from regard.modules.multi_head import MultiHeadAttention
from regard.modules.norms import make_norm

__all__ = ["ResidualAttention"]


class ResidualAttention(nn.Module):
    """Attention and an optional feed-forward network, each inside a residual connection.

    ``post`` (Transformer, BERT): x ← norm(x + dropout(sublayer(x))).
    ``pre`` (GPT-2 and later): x ← x + dropout(sublayer(norm(x))), which trains deep stacks without warm-up; the stack
    then needs one more norm at its end. In cross-attention the context is taken as it is.

    Args:
        attention: the attention of this layer.
        feed_forward: the network after it, or None for attention alone.
        norm: where the layer norms stand, ``"post"`` or ``"pre"``.
        dropout_p: dropout of each sublayer's output.
        norm_kind: ``"layer"`` for layer norm or ``"rms"`` for RMSNorm.
        layer_norm_eps: added to the variance (``"rms"``: the mean square) in the norms.

    Raises:
        ArgumentError: an unknown ``norm`` or ``norm_kind``.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762; Xiong et al., On layer normalization in the
        Transformer architecture, arXiv:2002.04745.

    Example:
        >>> layer = ResidualAttention(MultiHeadAttention(8, 2), FeedForward(8, 32), norm="pre")
        >>> layer(torch.zeros(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: FeedForward | None = None,
        *,
        norm: str = "post",
        dropout_p: float = 0.0,
        norm_kind: str = "layer",
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ArgumentError(f'norm must be "pre" or "post", got {norm!r}.')
        self.norm = norm
        self.attention = attention
        self.attention_norm = make_norm(norm_kind, attention.embed_dim, layer_norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = (
            None if feed_forward is None else make_norm(norm_kind, attention.embed_dim, layer_norm_eps)
        )
        self.dropout = FastDropout(dropout_p)

    def forward(
        self,
        x: Float[Tensor, "batch q_len embed_dim"],
        context: Float[Tensor, "batch kv_len context_dim"] | None = None,
        *,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
        positions: Int[Tensor, "*sequences q_len"] | None = None,
        cache: KeyValueCache | CrossAttentionCache | None = None,
    ) -> Float[Tensor, "batch q_len embed_dim"]:
        """Return the layer's hidden states; the arguments are those of ``MultiHeadAttention``."""
        pre = self.norm == "pre"
        attended = self.attention(
            self.attention_norm(x) if pre else x,
            context,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            attn_bias=attn_bias,
            positions=positions,
            cache=cache,
        )
        x = x + self.dropout(attended)
        x = x if pre else self.attention_norm(x)
        if self.feed_forward is None or self.feed_forward_norm is None:
            return x
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x) if pre else x))
        return x if pre else self.feed_forward_norm(x)

    def extra_repr(self) -> str:
        """Return where the norms stand, for ``print(model)``."""
        return f"norm={self.norm!r}"
