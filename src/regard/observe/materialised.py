"""Weights and similarities from scores that a model holds itself, a few rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from regard._errors import ArgumentError

__all__ = ["similarity_of_scores", "weights_of_scores"]

_AT_ONCE = 1 << 20  # scores that are copied at a time


def weights_of_scores(scores: Tensor, rows: Tensor | slice, keys: Tensor | slice) -> Tensor:
    """Return the softmax of some rows at some keys.

    A score is forbidden where it is -inf or at most half of its type's most negative number, as
    ``regard.functional.statistics_of_scores`` has it.

    Args:
        scores: (heads, q_len, kv_len), masked.
        rows: wanted queries.
        keys: wanted keys.

    Returns:
        (heads, rows, keys), float32 (float64 for float64); 0 for a row without any key.
    """
    wanted = torch.arange(scores.shape[1], device=scores.device)[rows]
    picked = [_logs(scores[:, some])[0][..., keys].exp() for some in wanted.split(_rows_at_once(scores))]
    return torch.cat(picked, 1)


def similarity_of_scores(scores: Tensor, measure: str, query_mask: Tensor | None) -> Tensor:
    """Return how alike the maps of each two heads are, as ``regard.functional.head_similarity`` defines it.

    Args:
        scores: (batch, heads, q_len, kv_len), masked.
        measure: ``"cosine"`` or ``"kl"``.
        query_mask: bool (batch, q_len), True = the query counts; None for all.

    Returns:
        (batch, heads, heads), NaN for a head without a counted row that may see a key.

    Raises:
        ArgumentError: an unknown measure.
    """
    if measure not in ("cosine", "kl"):
        raise ArgumentError(f'measure must be "cosine" or "kl", got {measure!r}.')
    compare = _cosine if measure == "cosine" else _divergence
    everything = torch.ones(scores.shape[2], dtype=torch.bool, device=scores.device)
    counted = [everything] * len(scores) if query_mask is None else list(query_mask)
    return torch.stack([compare(one, rows) for one, rows in zip(scores, counted, strict=True)])


def _cosine(scores: Tensor, counted: Tensor) -> Tensor:
    products = torch.zeros(len(scores), len(scores), dtype=_dtype(scores), device=scores.device)
    for logs, _ in _counted_logs(scores, counted):
        weights = logs.exp().flatten(1)
        products += weights @ weights.mT
    norms = products.diagonal().sqrt()
    return (products / norms[:, None] / norms).clamp_max(1.0)


def _divergence(scores: Tensor, counted: Tensor) -> Tensor:
    heads = len(scores)
    expected = torch.zeros(heads, heads, dtype=_dtype(scores), device=scores.device)
    escaped, num_rows = torch.zeros_like(expected), expected.new_zeros(heads, 1)
    for logs, hidden in _counted_logs(scores, counted):
        expected += logs.exp().flatten(1) @ logs.masked_fill(hidden, 0.0).flatten(1).mT
        escaped += (~hidden).to(logs.dtype).flatten(1) @ hidden.to(logs.dtype).flatten(1).mT
        num_rows += (~hidden).any(-1).sum(-1, keepdim=True)
    total = (expected.diagonal()[:, None] - expected).clamp_min(0.0).masked_fill(escaped > 0, torch.inf)
    return torch.where(num_rows > 0, total / num_rows, torch.nan)


def _counted_logs(scores: Tensor, counted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for some in counted.nonzero()[:, 0].split(_rows_at_once(scores)):
        yield _logs(scores[:, some])


def _logs(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the weights, -inf where forbidden, and where that is."""
    hidden = scores <= torch.finfo(scores.dtype).min / 2
    masked = scores.to(_dtype(scores)).masked_fill(hidden, -torch.inf)
    lse = masked.logsumexp(-1, keepdim=True)
    return masked - lse.masked_fill(lse == -torch.inf, 0.0), hidden


def _rows_at_once(scores: Tensor) -> int:
    return max(1, _AT_ONCE // max(1, scores.shape[0] * scores.shape[2]))


def _dtype(scores: Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32
