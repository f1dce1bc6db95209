"""Ways to compare a query with a key: dot product, bilinear form, cosine, and a small network.

The functions return dense scores (batch, heads, q_len, kv_len), for inspection and for blocks of queries. To attend
without that matrix: ``general`` is ``attention(query @ weight, key, value, scale=1.0)``; ``cosine`` is
``attention(*qk_norm(query, key, scale), value, scale=1.0)``; ``additive`` has ``additive_attention``.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from regard._errors import ArgumentError
from regard.functional import reference
from regard.functional.masks import check_mask

__all__ = ["additive", "additive_attention", "attend_hidden", "cosine", "dot", "general", "qk_norm"]

_BLOCK_ELEMENTS = 1 << 20  # hidden units alive at a time in additive scores


def dot(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch heads kv_len head_dim"],
    *,
    scale: float | None = None,
    temperature: Float[Tensor, "*temperatures"] | None = None,
) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return scale · q · k / temperature.

    Args:
        query: what asks.
        key: what is compared with.
        scale: 1 / √head_dim by default.
        temperature: one number, or one per head, above 0; learnable where it requires a gradient. None for 1.

    References:
        Luong et al., arXiv:1508.04025, equation 7 (scale 1); Vaswani et al., arXiv:1706.03762 (scaled).
    """
    return _tempered(reference.scores(query, key, scale=scale), temperature)


def general(
    query: Float[Tensor, "batch heads q_len query_dim"],
    key: Float[Tensor, "batch heads kv_len key_dim"],
    weight: Float[Tensor, "*groups query_dim key_dim"],
    *,
    temperature: Float[Tensor, "*temperatures"] | None = None,
) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return the bilinear scores qᵀ W k / temperature; ``weight`` is shared, or one per head.

    References:
        Luong et al., Effective approaches to attention-based translation, arXiv:1508.04025, equation 7.
    """
    return _tempered(query @ weight @ key.mT, temperature)


def cosine(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch heads kv_len head_dim"],
    *,
    temperature: Float[Tensor, "*temperatures"] | None = None,
) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return the cosines of the angles between queries and keys, in [-1, 1], divided by ``temperature``.

    A vector of length 0 has the cosine 0 with everything.

    References:
        Graves et al., Neural Turing machines, arXiv:1410.5401, equation 6.
    """
    unit_query, unit_key = qk_norm(query, key, 1.0)
    return _tempered(unit_query @ unit_key.mT, temperature)


def qk_norm(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    scale: float | Float[Tensor, "..."],
) -> tuple[Float[Tensor, "batch heads q_len head_dim"], Float[Tensor, "batch kv_heads kv_len head_dim"]]:
    """Return queries of length ``scale`` and keys of length 1, to be attended with ``scale=1.0``.

    The scores are then scale · cosine and cannot grow beyond it, which keeps the softmax from saturating.

    Args:
        query: what asks.
        key: what is compared with.
        scale: one number, or a tensor that broadcasts to (batch, heads, q_len, 1); learnable where it requires a
            gradient. The authors start at log2(n² - n) for sequences of n tokens.

    References:
        Henry et al., Query-key normalization for Transformers, arXiv:2010.04245, section 3.
    """
    return (_unit(query) * scale).to(query.dtype), _unit(key).to(key.dtype)


def additive(
    query: Float[Tensor, "batch heads q_len query_dim"],
    key: Float[Tensor, "batch heads kv_len key_dim"],
    *,
    query_weight: Float[Tensor, "query_dim hidden"],
    key_weight: Float[Tensor, "key_dim hidden"],
    vector: Float[Tensor, " hidden"],
) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return vᵀ tanh(W q + U k), which compares vectors of unequal widths.

    The hidden units, q_len × kv_len × hidden of them, exist for a block of queries at a time, in the backward pass too.

    References:
        Bahdanau et al., Neural machine translation by jointly learning to align and translate, arXiv:1409.0473,
        appendix A.1.2.
    """
    hidden_query, hidden_key = query @ query_weight, key @ key_weight
    rows = _rows_per_block(hidden_key)
    return torch.cat([_recomputed(_additive_rows, part, hidden_key, vector) for part in hidden_query.split(rows, 2)], 2)


def additive_attention(
    query: Float[Tensor, "batch heads q_len query_dim"],
    key: Float[Tensor, "batch heads kv_len key_dim"],
    value: Float[Tensor, "batch heads kv_len value_dim"],
    *,
    query_weight: Float[Tensor, "query_dim hidden"],
    key_weight: Float[Tensor, "key_dim hidden"],
    vector: Float[Tensor, " hidden"],
    attn_mask: Tensor | None = None,
) -> Float[Tensor, "batch heads q_len value_dim"]:
    """Return the values weighted by the softmax of ``additive`` scores, a block of queries at a time.

    Neither the hidden units nor the scores of all queries ever exist at once, in the backward pass neither. A query
    that may attend to nothing gets 0.

    Args:
        query: what asks.
        key: what is compared with; its width may differ.
        value: what is summed.
        query_weight: W of ``additive``.
        key_weight: U of ``additive``.
        vector: v of ``additive``.
        attn_mask: bool, **True = may attend**, broadcasts to (batch, heads, q_len, kv_len).

    Raises:
        ArgumentError: a mask that does not fit.
        DtypeError: a mask that is not boolean.
    """
    return attend_hidden(query @ query_weight, key @ key_weight, value, vector=vector, attn_mask=attn_mask)


def attend_hidden(
    hidden_query: Float[Tensor, "batch heads q_len hidden"],
    hidden_key: Float[Tensor, "batch heads kv_len hidden"],
    value: Float[Tensor, "batch heads kv_len value_dim"],
    *,
    vector: Float[Tensor, " hidden"],
    attn_mask: Tensor | None = None,
) -> Float[Tensor, "batch heads q_len value_dim"]:
    """Do what ``additive_attention`` does with W q and U k, for who asks the same keys again and again.

    Raises:
        ArgumentError: a mask that does not fit.
        DtypeError: a mask that is not boolean.
    """
    batch, heads, q_len, _ = hidden_query.shape
    if attn_mask is not None:
        attn_mask = check_mask(attn_mask, batch, heads, q_len, hidden_key.shape[2])
    rows = _rows_per_block(hidden_key)
    parts = []
    for start in range(0, q_len, rows):
        mask = attn_mask if attn_mask is None or attn_mask.shape[2] == 1 else attn_mask[:, :, start : start + rows]
        part = hidden_query[:, :, start : start + rows]
        parts.append(_recomputed(_attend_rows, part, hidden_key, vector, value, mask))
    return torch.cat(parts, 2) if parts else value.new_zeros(batch, heads, q_len, value.shape[3])


def _additive_rows(hidden_query: Tensor, hidden_key: Tensor, vector: Tensor) -> Tensor:
    return torch.tanh(hidden_query[:, :, :, None] + hidden_key[:, :, None]) @ vector


def _attend_rows(
    hidden_query: Tensor, hidden_key: Tensor, vector: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    scores = _additive_rows(hidden_query, hidden_key, vector)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return reference.weights(scores) @ value


def _recomputed(function: Callable[..., Tensor], *arguments: Tensor | None) -> Tensor:
    """Run ``function`` so that backward computes it again instead of keeping what it made."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)  # type: ignore[no-any-return]


def _rows_per_block(hidden_key: Tensor) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, hidden_key.numel()))


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors of length 1, in float32 at least: squares of half-precision numbers overflow."""
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    return torch.nn.functional.normalize(wide, dim=-1)


def _tempered(scores: Tensor, temperature: Tensor | None) -> Tensor:
    if temperature is None:
        return scores
    if temperature.ndim > 1:
        raise ArgumentError(f"temperature must be a number or one per head, got the shape {tuple(temperature.shape)}.")
    return scores / (temperature[:, None, None] if temperature.ndim == 1 else temperature)
