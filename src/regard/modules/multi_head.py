"""Multi-head attention with its projections: over a sequence itself, or over another one."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import Pattern, PatternError, attention, pattern_error
from regard.functional.masks import combine
from regard.functional.scoring import qk_norm as normed
from regard.modules.cache import Attended, CrossAttentionCache, KeyValueCache
from regard.modules.linear import Linear
from regard.modules.padding import keep_mask, real_tokens
from regard.modules.rotary import turned, turned_at_end

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
        pattern: which positions see which, as ``regard.functional.patterns`` makes them; None for all. It may be set
            later, as ``layer.pattern``: weights that were trained without one then give other outputs, and
            ``pattern_error`` tells how far they are off.
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
        pattern: Pattern | None = None,
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
        self.compute_dtype, self.pattern, self.impl = compute_dtype, pattern, impl
        self.query = Linear(embed_dim, num_heads * head_dim, bias=bias)
        self.key = Linear(kdim, num_kv_heads * head_dim, bias=bias)
        self.value = Linear(vdim, num_kv_heads * head_dim, bias=bias)
        self.output = Linear(num_heads * head_dim, embed_dim, bias=bias)
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
        positions: Int[Tensor, "*sequences q_len"] | None = None,
        cache: KeyValueCache | CrossAttentionCache | None = None,
    ) -> Float[Tensor, "batch q_len embed_dim"]:
        """Attend from ``x`` to ``context``.

        Args:
            x: where queries are made.
            context: where keys and values are made; None for ``x``, or for the one that ``cache`` holds.
            value_context: where values are made, if elsewhere than keys.
            key_padding_mask: bool (batch, kv_len), **True = padding**, as in PyTorch's module. With a cache it lies
                over the new tokens; the cache remembers the earlier ones.
            attn_mask: bool, **True = may attend**, broadcasts to (batch, heads, q_len, kv_len); kv_len counts what a
                cache holds.
            attn_bias: float, same shape, added to the scaled scores.
            positions: of the tokens of ``x``, for rotary self-attention; None to count from 0, or on from those in
                ``cache``, over real tokens.
            cache: of this layer alone, for inference. Self-attention puts its keys and values behind those in a
                ``KeyValueCache`` and attends to all; cross-attention makes them once and keeps them in a
                ``CrossAttentionCache``, after which ``context`` and its mask are left out.

        Returns:
            The attended values after the output projection. A query without a single key gets the output
            projection's bias.

        Raises:
            ArgumentError: a shape that does not fit, a causal layer with more queries than keys, a cache of a layer
                whose self-attention is not causal or has a pattern, or one that must not be given what it is given.
            DtypeError: a mask that is not boolean.
        """
        if self.pattern is not None and cache is not None:
            raise ArgumentError(
                f"A cache does not say where its keys stand, which a pattern needs, got a {type(cache).__name__}; "
                "set layer.pattern to None, or give a SlidingWindowCache to a layer without a pattern."
            )
        if isinstance(cache, CrossAttentionCache):
            query, held = self._crossing(x, context, value_context, key_padding_mask, cache)
        elif cache is not None:
            query, held = self._continuing(x, context, value_context, key_padding_mask, positions, cache)
        else:
            context, value_context = self._contexts(x, context, value_context)
            keep = keep_mask(None, key_padding_mask, context)
            query, key, value = self._heads(x, context, value_context, positions)
            held = Attended(key, value, keep)
        attended = self._attend(query, held.key, held.value, combine(attn_mask, held.keep), attn_bias)
        projected: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return projected

    def pattern_error(
        self,
        x: Float[Tensor, "batch len embed_dim"],
        pattern: Pattern | None = None,
        *,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        attn_bias: Tensor | None = None,
        rows: int = 256,
        seed: int = 0,
    ) -> PatternError:
        """Measure how far self-attention by a pattern is from dense self-attention with the same weights.

        Args:
            x: what the layer reads, as for ``forward``.
            pattern: to be measured; that of the layer by default.
            key_padding_mask: bool (batch, len), **True = padding**.
            attn_mask: bool, **True = may attend**.
            attn_bias: float, added to the scaled scores.
            rows: how many rows of each sequence to draw.
            seed: of the draw.

        Returns:
            The lost mass and the error of the heads' outputs, before the output projection; ``print`` it.

        Raises:
            ArgumentError: neither the layer nor the call has a pattern; shapes that do not fit.
        """
        pattern = self.pattern if pattern is None else pattern
        if pattern is None:
            raise ArgumentError("pattern_error needs a pattern, got none here and none in the layer; give pattern=.")
        with torch.no_grad():
            self._contexts(x, None, None)
            query, key, value = self._heads(x, x, x, None)
        return pattern_error(
            query,
            key,
            value,
            pattern,
            rows=rows,
            seed=seed,
            attn_mask=combine(attn_mask, keep_mask(None, key_padding_mask, x)),
            attn_bias=attn_bias,
            causal=self.causal,
            scale=None if self.norm_scale is None else 1.0,
        )

    def _continuing(
        self,
        x: Tensor,
        context: Tensor | None,
        value_context: Tensor | None,
        key_padding_mask: Tensor | None,
        positions: Tensor | None,
        cache: KeyValueCache,
    ) -> tuple[Tensor, Attended]:
        """Return the queries of ``x``, and what is cached with the keys and values of ``x`` behind it."""
        if context is not None or value_context is not None:
            raise ArgumentError(
                f"A {type(cache).__name__} is for self-attention, got a context; give a CrossAttentionCache."
            )
        if not self.causal:
            raise ArgumentError(
                "A cache needs causal self-attention, got a bidirectional layer, in which each new token changes what "
                "the earlier ones give; leave the cache out, or make the layer with causal=True."
            )
        self._contexts(x, None, None)
        keep = None if key_padding_mask is None else real_tokens(key_padding_mask, x)
        num_positions = cache.length + x.shape[1]
        if positions is None and self.rotary is not None:
            positions = cache.positions(x.shape[1], keep).to(x.device)
        query, key, value = self._heads(x, x, x, positions, num_positions)
        return query, cache.append(key, value, keep)

    def _crossing(
        self,
        x: Tensor,
        context: Tensor | None,
        value_context: Tensor | None,
        key_padding_mask: Tensor | None,
        cache: CrossAttentionCache,
    ) -> tuple[Tensor, Attended]:
        """Return the queries of ``x``, and the keys and values of the one context."""
        if self.causal:
            raise ArgumentError("A CrossAttentionCache is for layers with causal=False, got a causal one.")
        if cache.length == 0:
            if context is None:
                raise ArgumentError("An empty CrossAttentionCache needs a context to fill it, got none; give it once.")
            context, value_context = self._contexts(x, context, value_context)
            query, key, value = self._heads(x, context, value_context, None)
            return query, cache.fill(key, value, keep_mask(None, key_padding_mask, context))
        if not (context is value_context is key_padding_mask is None):
            raise ArgumentError(
                "A filled CrossAttentionCache has the context and its padding already, got one of them again; "
                "leave them out, or begin another cache."
            )
        held = cache.held()
        query = _split(self.query(x), self.num_heads)
        if self.norm_scale is not None:
            query, _ = normed(query, query, self.norm_scale[:, None, None])
        return self._tempered(query), held

    def _heads(
        self,
        x: Tensor,
        context: Tensor,
        value_context: Tensor,
        positions: Tensor | None,
        num_positions: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value as (batch, heads, len, head_dim), after norm, positions, temperature."""
        query = _split(self.query(x), self.num_heads)
        key = _split(self.key(context), self.num_kv_heads)
        value = _split(self.value(value_context), self.num_kv_heads)
        if self.norm_scale is not None:
            query, key = normed(query, key, self.norm_scale[:, None, None])
        if positions is not None:
            query, key = self._placed(query, key, positions, num_positions)
        elif self.rotary is not None:
            query, key = turned_at_end(query, key, base=self.rotary)
        return self._tempered(query), key, value

    def _placed(
        self, query: Tensor, key: Tensor, positions: Tensor, num_positions: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return query and key turned by the positions of their tokens, which are the same."""
        if self.rotary is None or query.shape[2] != key.shape[2]:
            raise ArgumentError(
                "positions are for rotary self-attention, got them for a layer without rotary or with a context; "
                "leave them out."
            )
        limit = int(positions.max()) + 1 if num_positions is None else num_positions
        query, key = (turned(one, positions, base=self.rotary, num_positions=limit) for one in (query, key))
        return query, key

    def _tempered(self, query: Tensor) -> Tensor:
        """Return the queries divided by the temperature of their head."""
        if self.log_temperature is None:
            return query
        # Divides the scores; on the queries it costs q_len rather than q_len · kv_len.
        return query * torch.exp(-self.log_temperature)[:, None, None].to(query.dtype)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, attn_bias: Tensor | None
    ) -> Tensor:
        """Return the attended values in the precision of ``query``, computed in ``compute_dtype``."""
        options: dict[str, Any] = {
            "attn_mask": keep,
            "attn_bias": attn_bias,
            "causal": self.causal,
            "pattern": self.pattern,
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


def _split(x: Tensor, num_heads: int) -> Tensor:
    """Return (batch, num_heads, len, head_dim) of (batch, len, num_heads · head_dim)."""
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)
