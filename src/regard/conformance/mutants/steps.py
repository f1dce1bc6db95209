"""Attention in steps that can be exchanged one by one: a bug is one of them done otherwise."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.functional import causal_mask

__all__ = ["Steps", "exchanged"]


def _factor(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _scores(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (factor * query) @ key.mT


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def _weights(scores: Tensor) -> Tensor:
    empty = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


def _spread(tensor: Tensor, group: int) -> Tensor:
    return tensor.repeat_interleave(group, 1)


def _dropped(weights: Tensor, dropout_p: float) -> Tensor:
    return torch.dropout(weights, dropout_p, train=True)


def _mixed(weights: Tensor, value: Tensor) -> Tensor:
    return weights @ value


@dataclass(frozen=True)
class Steps:
    """Scaled dot-product attention on (batch, heads, len, head_dim), one function per step.

    Attributes:
        factor: (query, scale) -> factor of the dot products.
        spread: (key or value, group) -> one key head for each query head.
        scores: (query, key, factor) -> scores.
        causal: (q_len, kv_len) -> bool mask, True = may attend.
        masked: (scores, mask) -> scores; the mask is boolean, True = may attend, or float and added.
        weights: scores -> weights.
        dropped: (weights, dropout_p) -> weights.
        mixed: (weights, value) -> output.
    """

    factor: Callable[[Tensor, float | None], float] = _factor
    spread: Callable[[Tensor, int], Tensor] = _spread
    scores: Callable[[Tensor, Tensor, float], Tensor] = _scores
    causal: Callable[[int, int], Tensor] = causal_mask
    masked: Callable[[Tensor, Tensor], Tensor] = _masked
    weights: Callable[[Tensor], Tensor] = _weights
    dropped: Callable[[Tensor, float], Tensor] = _dropped
    mixed: Callable[[Tensor, Tensor], Tensor] = _mixed

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """Attend, as ``scaled_dot_product_attention`` does, but causal at the bottom right."""
        group = query.shape[1] // key.shape[1]
        key, value = (one if group == 1 else self.spread(one, group) for one in (key, value))
        scores = self.scores(query, key, self.factor(query, scale))
        if is_causal:
            scores = self.masked(scores, self.causal(query.shape[2], key.shape[2]))
        if attn_mask is not None:
            scores = self.masked(scores, attn_mask)
        return self.mixed(self.dropped(self.weights(scores), dropout_p), value)


def exchanged(**steps: Any) -> Callable[[Steps], Steps]:
    """Return the patch that does some steps otherwise."""
    return lambda healthy: replace(healthy, **steps)
