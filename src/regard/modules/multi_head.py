"""Multi-head attention with its projections: over a sequence itself, or over another one."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import attention
from regard.functional.masks import check_causal_lengths
from regard.functional.positions import apply_rotary, rotary_tables
from regard.functional.scoring import qk_norm as normed
from regard.modules.padding import keep_mask

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(nn.Module):
    """Multi-head attention: output([head_1, …]), head_i = attention(query_i(x), key_i(context), value_i(context)).

    Head i owns columns i · head_dim to (i + 1) · head_dim of each projection. Batch first, always. The scores are
    scaled by 1/√head_dim. Without a context it is self-attention.

    Args:
        embed_dim: width of input and output.
        num_heads: query heads.
        num_kv_heads: key and value heads, each shared by num_heads / num_kv_heads query heads; None for num_heads.
        head_dim: width per head; None for embed_dim / num_heads.
        kdim: width of the context that keys are made of; None for embed_dim.
        vdim: width of the context that values are made of; None for ``kdim``.
        bias: whether the four projections have biases.
        dropout_p: dropout of the attention weights while training; above 0 torch's CPU kernel is not the fused one.
        causal: a position sees itself and earlier ones. With a context this is aligned at the end: the last query
            belongs to the last key, as when a sequence continues behind a cached part.
        rotary: base of rotary positions (10,000 in most models); None for none. Positions count from 0 over the keys.
        qk_norm: give queries and keys the length 1 and scale their cosine by a learnt number per head, which starts
            at √head_dim, the largest score that two vectors with elements of unit size can have.
        temperature: divide each head's scores by a learnt positive number that starts at 1; not with ``qk_norm``,
            which learns a scale already.
        compute_dtype: precision of scores, softmax and weighted sum; None for that of the projections. Under bfloat16
            autocast, ``torch.float32`` is the faster on CPUs without matrix units for bfloat16.
        impl: backend, see ``regard.attention``.

    Raises:
        ArgumentError: sizes that do not divide or options that exclude each other.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762; Ainslie et al. (grouped heads), arXiv:2305.13245;
        Su et al. (rotary), arXiv:2104.09864; Henry et al. (QK norm), arXiv:2010.04245.

    Example:
        >>> layer = MultiHeadAttention(8, 2)
        >>> layer(torch.zeros(1, 5, 8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        bias: bool = True,
        dropout_p: float = 0.0,
        causal: bool = False,
        rotary: float | None = None,
        qk_norm: bool = False,
        temperature: bool = False,
        compute_dtype: torch.dtype | None = None,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        head_dim = _head_dim(embed_dim, num_heads, num_kv_heads, head_dim)
        kdim = embed_dim if kdim is None else kdim
        vdim = kdim if vdim is None else vdim
        if not 0 <= dropout_p < 1:
            raise ArgumentError(f"dropout_p must lie in [0, 1), got {dropout_p}.")
        if rotary is not None and (head_dim % 2 or not rotary > 0):
            raise ArgumentError(f"rotary needs an even head_dim and a positive base, got {head_dim} and {rotary}.")
        if qk_norm and temperature:
            raise ArgumentError(
                "qk_norm learns a scale of its own, got temperature=True as well; leave one of them out."
            )
        if compute_dtype is not None and not compute_dtype.is_floating_point:
            raise ArgumentError(f"compute_dtype must be a floating type or None, got {compute_dtype}.")
        self.embed_dim, self.num_heads, self.num_kv_heads, self.head_dim = embed_dim, num_heads, num_kv_heads, head_dim
        self.dropout_p, self.causal, self.rotary = dropout_p, causal, rotary
        self.compute_dtype, self.impl = compute_dtype, impl
        self.query = nn.Linear(embed_dim, num_heads * head_dim, bias=bias)
        self.key = nn.Linear(kdim, num_kv_heads * head_dim, bias=bias)
        self.value = nn.Linear(vdim, num_kv_heads * head_dim, bias=bias)
        self.output = nn.Linear(num_heads * head_dim, embed_dim, bias=bias)
        self.norm_scale = nn.Parameter(torch.full((num_heads,), math.sqrt(head_dim))) if qk_norm else None
        self.log_temperature = nn.Parameter(torch.zeros(num_heads)) if temperature else None

    def forward(
        self,
        x: Float[Tensor, "batch q_len embed_dim"],
        context: Float[Tensor, "batch kv_len kdim"] | None = None,
        *,
        value_context: Float[Tensor, "batch kv_len vdim"] | None = None,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
    ) -> Float[Tensor, "batch q_len embed_dim"]:
        """Attend from ``x`` to ``context``.

        Args:
            x: where queries are made.
            context: where keys and values are made; None for ``x``.
            value_context: where values are made, if elsewhere than keys.
            key_padding_mask: bool (batch, kv_len), **True = padding**, as in PyTorch's module.
            attn_mask: bool, **True = may attend**, broadcasts to (batch, heads, q_len, kv_len).
            attn_bias: float, same shape, added to the scaled scores.

        Returns:
            The attended values after the output projection. A query without a single key gets the output
            projection's bias.

        Raises:
            ArgumentError: a shape that does not fit, or a causal layer with more queries than keys.
            DtypeError: a mask that is not boolean.
        """
        context, value_context = self._contexts(x, context, value_context)
        keep = keep_mask(attn_mask, key_padding_mask, context)
        attended = self._attend(*self._heads(x, context, value_context), keep, attn_bias)
        projected: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor, context: Tensor, value_context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value as (batch, heads, len, head_dim), after norm, positions, temperature."""
        query = _split(self.query(x), self.num_heads)
        key = _split(self.key(context), self.num_kv_heads)
        value = _split(self.value(value_context), self.num_kv_heads)
        if self.norm_scale is not None:
            query, key = normed(query, key, self.norm_scale[:, None, None])
        if self.rotary is not None:
            query, key = _rotated(query, key, self.rotary)
        if self.log_temperature is not None:
            # Divides the scores; on the queries it costs q_len rather than q_len · kv_len.
            query = query * torch.exp(-self.log_temperature)[:, None, None].to(query.dtype)
        return query, key, value

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, attn_bias: Tensor | None
    ) -> Tensor:
        """Return the attended values in the precision of ``query``, computed in ``compute_dtype``."""
        options: dict[str, Any] = {
            "attn_mask": keep,
            "attn_bias": attn_bias,
            "causal": self.causal,
            "scale": None if self.norm_scale is None else 1.0,
            "dropout_p": self.dropout_p if self.training else 0.0,
            "impl": self.impl,
        }
        if self.compute_dtype is None:
            return attention(query, key, value, **options)
        with torch.autocast(query.device.type, enabled=False):
            q, k, v = (tensor.to(self.compute_dtype) for tensor in (query, key, value))
            return attention(q, k, v, **options).to(query.dtype)

    def _contexts(self, x: Tensor, context: Tensor | None, value_context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what keys and values are made of, after looking at the widths."""
        if context is not None and self.rotary is not None and not self.causal:
            raise ArgumentError(
                "Rotary positions need queries and keys of one sequence, got a context without causal=True; "
                "leave the context out or turn rotary off."
            )
        context = x if context is None else context
        value_context = context if value_context is None else value_context
        widths = (self.query.in_features, self.key.in_features, self.value.in_features)
        if (x.shape[-1], context.shape[-1], value_context.shape[-1]) != widths:
            raise ArgumentError(
                f"x, context and value_context must have the layer's widths {widths}, "
                f"got {(x.shape[-1], context.shape[-1], value_context.shape[-1])}."
            )
        return context, value_context


def _head_dim(embed_dim: int, num_heads: int, num_kv_heads: int, head_dim: int | None) -> int:
    """Return the width per head after looking at the sizes."""
    if min(embed_dim, num_heads, num_kv_heads, 1 if head_dim is None else head_dim) < 1:
        raise ArgumentError(
            f"embed_dim, num_heads, num_kv_heads and head_dim must be at least 1, "
            f"got {embed_dim}, {num_heads}, {num_kv_heads} and {head_dim}."
        )
    if num_heads % num_kv_heads:
        raise ArgumentError(f"num_heads must be a multiple of num_kv_heads, got {num_heads} and {num_kv_heads}.")
    if head_dim is None and embed_dim % num_heads:
        raise ArgumentError(
            f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}; change one or give head_dim."
        )
    return embed_dim // num_heads if head_dim is None else head_dim


def _rotated(query: Tensor, key: Tensor, base: float) -> tuple[Tensor, Tensor]:
    """Return query and key turned by their positions; the last query stands at the last key."""
    q_len, kv_len = query.shape[2], key.shape[2]
    check_causal_lengths(q_len, kv_len)
    cos, sin = rotary_tables(kv_len, key.shape[3], base=base, device=key.device)
    return apply_rotary(query, cos[kv_len - q_len :], sin[kv_len - q_len :]), apply_rotary(key, cos, sin)


def _split(x: Tensor, num_heads: int) -> Tensor:
    """Return (batch, num_heads, len, head_dim) of (batch, len, num_heads · head_dim)."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)
