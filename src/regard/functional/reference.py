"""The oracle: attention as its formulas read, eager, dense, in whatever precision the inputs have.

Everything else in this room is tested against this file at float64. It is the only file that may allocate a tensor of
q_len × kv_len numbers, and beside masks and patterns it imports torch only.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from regard.functional.masks import causal_mask, distances, query_positions, sliding_window_mask
from regard.functional.patterns.pattern import Pattern

__all__ = ["COLUMN_STATISTICS", "STATISTICS", "attention", "lse", "scores", "weights"]

SATURATION = 0.99
"""A row whose largest weight exceeds this counts as saturated."""


def scores(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return the scores before the softmax; -inf where a query may not attend."""
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    found = (query @ key.mT) * scale
    if softcap is not None:
        found = softcap * torch.tanh(found / softcap)
    if attn_bias is not None:
        found = found + attn_bias.to(found.dtype)
    if alibi_slopes is not None:
        apart = distances(query.shape[2], key.shape[2], query.device).to(found.dtype)
        found = found - alibi_slopes.to(found.dtype)[:, None, None] * apart
    if attn_mask is not None:
        found = found.masked_fill(~attn_mask, -torch.inf)
    if causal:
        found = found.masked_fill(~causal_mask(query.shape[2], key.shape[2], query.device), -torch.inf)
    if window is not None:
        near = sliding_window_mask(query.shape[2], key.shape[2], window=window, causal=causal, device=query.device)
        found = found.masked_fill(~near, -torch.inf)
    if pattern is not None:
        open_pairs = pattern.mask(query.shape[2], key.shape[2]).to(query.device)
        found = found.masked_fill(~open_pairs, -torch.inf)
    return found


def weights(scores: Float[Tensor, "batch heads q_len kv_len"]) -> Float[Tensor, "batch heads q_len kv_len"]:
    """Return the softmax of masked scores over the keys; a row without any key is 0, and so is its gradient."""
    empty = _empty(scores)
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def lse(scores: Float[Tensor, "batch heads q_len kv_len"]) -> Float[Tensor, "batch heads q_len"]:
    """Return the log-sum-exp of each row; -inf where there is no key."""
    empty = _empty(scores)
    return scores.masked_fill(empty, 0.0).logsumexp(-1).masked_fill(empty[..., 0], -torch.inf)


def attention(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
) -> Float[Tensor, "batch heads q_len value_dim"]:
    """Return softmax(scores) · value; arguments as ``regard.functional.attention``."""
    found = scores(
        query, key, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window, pattern=pattern,
        alibi_slopes=alibi_slopes, scale=scale, softcap=softcap,
    )  # fmt: skip
    dropped = torch.nn.functional.dropout(weights(found), dropout_p)
    return dropped @ value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


def _empty(scores: Tensor) -> Tensor:
    if scores.shape[-1] == 0:
        return torch.ones(*scores.shape[:-1], 1, dtype=torch.bool, device=scores.device)
    return (scores == -torch.inf).all(-1, keepdim=True)


# Statistics of rows: each takes the masked scores of all rows and returns (batch, heads, q_len).


def _entropy(scores: Tensor) -> Tensor:
    found = weights(scores)
    return -torch.xlogy(found, found).sum(-1)


def _num_keys(scores: Tensor) -> Tensor:
    return (scores > -torch.inf).sum(-1)


def _normalized_entropy(scores: Tensor) -> Tensor:
    num_keys = _num_keys(scores)
    return (_entropy(scores) / num_keys.to(scores.dtype).log()).masked_fill(num_keys == 1, torch.nan)


def _mass_at(scores: Tensor, offset: int) -> Tensor:
    """Return the weight on the key ``offset`` after the query's own position, NaN where there is none."""
    keys = query_positions(scores.shape[2], scores.shape[3], scores.device) + offset
    index = keys.clamp_min(0)[None, None, :, None].expand(*scores.shape[:3], 1)
    return weights(scores).gather(-1, index)[..., 0].masked_fill(keys < 0, torch.nan)


def _key_positions(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[3], dtype=scores.dtype, device=scores.device)


def _distance(scores: Tensor) -> Tensor:
    positions = query_positions(scores.shape[2], scores.shape[3], scores.device).to(scores.dtype)
    return (weights(scores) * (positions[:, None] - _key_positions(scores)).abs()).sum(-1)


def _max_weight(scores: Tensor) -> Tensor:
    return weights(scores).amax(-1)


def _saturated_share(scores: Tensor) -> Tensor:
    largest = _max_weight(scores)
    return (largest > SATURATION).to(scores.dtype).masked_fill(largest.isnan(), torch.nan)


def _visible(scores: Tensor, otherwise: float) -> Tensor:
    return scores.masked_fill(scores == -torch.inf, otherwise)


def _score_spread(scores: Tensor) -> Tensor:
    num_keys = _num_keys(scores).to(scores.dtype)
    mean = _visible(scores, 0.0).sum(-1) / num_keys
    apart = (scores - mean[..., None]).masked_fill(scores == -torch.inf, 0.0)
    return (apart.square().sum(-1) / num_keys).sqrt()


def _headroom(scores: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    bits: Tensor = _visible(scores, 0.0).abs().amax(-1).log2()
    return math.log2(torch.finfo(dtype or scores.dtype).max) - bits


def _contributions(scores: Tensor, value: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(value.to(scores.dtype), dim=-1)
    return weights(scores) * norms.repeat_interleave(scores.shape[1] // value.shape[1], dim=1)[:, :, None]


def _first_contribution(scores: Tensor, value: Tensor) -> Tensor:
    contributions = _contributions(scores, value)
    return contributions[..., 0] / contributions.sum(-1)


_BY_NAME: dict[str, Callable[..., Tensor]] = {
    "entropy": _entropy,
    "normalized_entropy": _normalized_entropy,
    "effective_keys": lambda scores: _entropy(scores).exp(),
    "collision": lambda scores: weights(scores).square().sum(-1),
    "max_weight": _max_weight,
    "max_score": lambda scores: scores.amax(-1),
    "min_score": lambda scores: _visible(scores, torch.inf).amin(-1),
    "score_spread": _score_spread,
    "headroom": _headroom,
    "first_mass": lambda scores: weights(scores)[..., 0],
    "self_mass": lambda scores: _mass_at(scores, 0),
    "previous_mass": lambda scores: _mass_at(scores, -1),
    "distance": _distance,
    "expected_position": lambda scores: (weights(scores) * _key_positions(scores)).sum(-1),
    "saturated_share": _saturated_share,
    "contribution": lambda scores, value: _contributions(scores, value).sum(-1),
    "first_contribution": _first_contribution,
}


def _nan_where_empty(statistic: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def found(scores: Tensor, **arguments: Tensor | torch.dtype) -> Tensor:
        values: Tensor = statistic(scores, **arguments)
        return values.masked_fill(_num_keys(scores) == 0, torch.nan)

    return found


STATISTICS: Mapping[str, Callable[..., Tensor]] = {
    name: _nan_where_empty(statistic) for name, statistic in _BY_NAME.items()
}
"""Every statistic of a query row as a function of the dense masked scores, NaN where a row has no key.

``headroom`` takes the ``dtype`` of the scores in the model, ``contribution`` and ``first_contribution`` take ``value``.
"""


# Statistics of columns: each takes the masked scores of all rows and which queries count, and returns (batch, heads).


def _received_gini(received: Tensor, num_queries: Tensor) -> Tensor:
    shares = (received / num_queries)[num_queries > 0]
    return (shares[:, None] - shares).abs().sum() / (2 * len(shares) * shares.sum())


def _heavy_hitter_mass(received: Tensor, num_queries: Tensor) -> Tensor:
    num_keys = int((num_queries > 0).sum())
    return received.topk(-(-num_keys // 10)).values.sum() / received.sum()


def _of_columns(statistic: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def found(scores: Tensor, query_mask: Tensor | None = None) -> Tensor:
        counted = torch.ones_like(scores[:, 0, :, 0], dtype=torch.bool) if query_mask is None else query_mask
        received = (weights(scores) * counted[:, None, :, None]).sum(2)
        num_queries = ((scores > -torch.inf) & counted[:, None, :, None]).sum(2)
        pairs = zip(received.flatten(0, 1), num_queries.flatten(0, 1), strict=True)
        return torch.stack([statistic(*pair) for pair in pairs]).view(scores.shape[:2])

    return found


COLUMN_STATISTICS: Mapping[str, Callable[..., Tensor]] = {
    "received_gini": _of_columns(_received_gini),
    "heavy_hitter_mass": _of_columns(_heavy_hitter_mass),
}
"""Every statistic of columns as a function of the dense masked scores, NaN where no counted query may see a key."""
