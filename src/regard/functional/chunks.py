"""Attention cut into chunks of a chosen size: the door for those who measure what the size of a chunk costs."""

from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.attention import check_arguments, check_scale
from regard.functional.impl.chunked import chunked_with_lse

__all__ = ["chunked_attention"]


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rows: int,
    attn_mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return attention computed for ``rows`` queries of all heads at a time, each against all keys.

    It is ``attention(impl="chunked")`` with chunks of a size of one's own: memory grows with it, operations do not.

    Args:
        query: as for ``attention``.
        key: as for ``attention``.
        value: as for ``attention``.
        rows: queries of a chunk.
        attn_mask: as for ``attention``.
        causal: as for ``attention``.
        scale: as for ``attention``.

    Raises:
        ArgumentError: less than a row, shapes that do not fit.

    References:
        Rabe and Staats, Self-attention does not need O(n²) memory, arXiv:2112.05682.

    Example:
        >>> import torch
        >>> chunked_attention(*(torch.ones(1, 1, 5, 8) for _ in range(3)), rows=2, causal=True).shape
        torch.Size([1, 1, 5, 8])
    """
    if rows < 1:
        raise ArgumentError(f"rows must be at least 1, got {rows}.")
    mask = check_arguments(query, key, attn_mask, None, causal, None)["attn_mask"]
    check_scale(scale)
    return chunked_with_lse(query, key, value, attn_mask=mask, causal=causal, scale=scale, rows_at_once=rows)[0]
