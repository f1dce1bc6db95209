"""A decoder layer: attention to what was written so far, attention to another sequence, a feed-forward network."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.modules.cache import CrossAttentionCache, KeyValueCache
from regard.modules.dropout import FastDropout
from regard.modules.feed_forward import FeedForward
from regard.modules.multi_head import MultiHeadAttention

__all__ = ["DecoderBlock"]


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention and a feed-forward network, each inside a residual connection.

    ``post``: x ← norm(x + dropout(sublayer(x))); ``pre``: x ← x + dropout(sublayer(norm(x))), as in
    ``ResidualAttention``. The context is taken as it is: where an encoder has norms of its own at the end of a
    ``pre`` stack, they are the stack's.

    Args:
        self_attention: attention of the sequence to itself, usually causal.
        cross_attention: attention to the context.
        feed_forward: the network after both.
        norm: where the layer norms stand, ``"post"`` or ``"pre"``.
        dropout_p: dropout of each sublayer's output.
        layer_norm_eps: added to the variance in the layer norms.

    Raises:
        ArgumentError: an unknown ``norm``, or widths that differ.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, figure 1; Xiong et al., On layer normalization in
        the Transformer architecture, arXiv:2002.04745.

    Example:
        >>> mine, other = MultiHeadAttention(8, 2, causal=True), MultiHeadAttention(8, 2)
        >>> layer = DecoderBlock(mine, other, FeedForward(8, 32))
        >>> layer(torch.zeros(1, 5, 8), torch.zeros(1, 3, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        self_attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention,
        feed_forward: FeedForward,
        *,
        norm: str = "post",
        dropout_p: float = 0.0,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ArgumentError(f'norm must be "pre" or "post", got {norm!r}.')
        width = self_attention.embed_dim
        if cross_attention.embed_dim != width:
            raise ArgumentError(
                f"self_attention and cross_attention must have one embed_dim, got {width} and "
                f"{cross_attention.embed_dim}; make them alike."
            )
        self.norm = norm
        self.self_attention = self_attention
        self.self_attention_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.cross_attention = cross_attention
        self.cross_attention_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.dropout = FastDropout(dropout_p)

    def forward(
        self,
        x: Float[Tensor, "batch q_len embed_dim"],
        context: Float[Tensor, "batch kv_len context_dim"] | None,
        *,
        key_padding_mask: Tensor | None = None,
        context_padding_mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        context_cache: CrossAttentionCache | None = None,
    ) -> Float[Tensor, "batch q_len embed_dim"]:
        """Return the layer's hidden states.

        Args:
            x: what the decoder has so far.
            context: what the encoder gave; None where ``context_cache`` holds it.
            key_padding_mask: bool (batch, q_len) over ``x``, **True = padding**.
            context_padding_mask: bool (batch, kv_len) over ``context``, **True = padding**; None where
                ``context_cache`` holds it.
            cache: keys and values of the tokens before ``x``, for inference.
            context_cache: keys and values of the context, made once.
        """
        own = partial(self.self_attention, key_padding_mask=key_padding_mask, cache=cache)
        cross = partial(
            self.cross_attention, context=context, key_padding_mask=context_padding_mask, cache=context_cache
        )
        x = self._around(own, x, self.self_attention_norm)
        x = self._around(cross, x, self.cross_attention_norm)
        return self._around(self.feed_forward, x, self.feed_forward_norm)

    def _around(self, sublayer: Callable[[Tensor], Tensor], x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return what the sublayer adds to ``x``, with its norm before or after."""
        pre = self.norm == "pre"
        added: Tensor = self.dropout(sublayer(norm(x) if pre else x))
        return x + added if pre else norm(x + added)

    def extra_repr(self) -> str:
        """Return where the norms stand, for ``print(model)``."""
        return f"norm={self.norm!r}"
