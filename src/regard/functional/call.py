"""One attention call as statistics look at it: arguments checked, without gradients and without autocast."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.attention import check_arguments, check_scale
from regard.functional.impl.blocks import accumulation_dtype
from regard.functional.impl.rows_call import RowsCall
from regard.functional.patterns import Pattern

__all__ = ["check_query_mask", "check_rows", "checked_call", "quiet", "value_norms"]


@contextmanager
def quiet(query: Tensor) -> Iterator[None]:
    """No gradients, and no autocast: it would take the scores to half precision."""
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        yield


def checked_call(
    query: Tensor,
    key: Tensor,
    lse: Tensor | None,
    *,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    window: int | None,
    alibi_slopes: Tensor | None,
    scale: float | None,
    softcap: float | None,
    pattern: Pattern | None = None,
) -> RowsCall:
    """Return the call with all its rows, or raise what ``check_arguments`` raises."""
    shaping = check_arguments(query, key, attn_mask, attn_bias, causal, softcap, window, alibi_slopes, pattern)
    check_scale(scale)
    if lse is not None and lse.shape != query.shape[:3]:
        raise ArgumentError(
            f"lse must be (batch, heads, q_len) = {tuple(query.shape[:3])}, got the shape {tuple(lse.shape)}."
        )
    return RowsCall(
        query=query.detach(),
        key=key.detach(),
        **shaping,
        causal=causal,
        scale=1.0 / math.sqrt(query.shape[-1]) if scale is None else scale,
        softcap=softcap,
        positions=range(key.shape[2] - query.shape[2], key.shape[2]),
        lse=lse,
    )


def check_rows(rows: Tensor | None, query: Tensor) -> Tensor | None:
    """Return ``rows`` on the device of ``query``, or raise.

    Raises:
        DtypeError: they are not int64.
        ArgumentError: they are neither (rows,) nor (batch, rows), or lie outside of the queries.
    """
    if rows is None:
        return None
    if rows.dtype != torch.int64:
        raise DtypeError(f"rows must be int64, got {rows.dtype}; convert them with `rows.long()`.")
    if rows.ndim not in (1, 2) or (rows.ndim == 2 and rows.shape[0] != query.shape[0]):
        raise ArgumentError(
            f"rows must be (rows,) or (batch, rows) with the batch of {query.shape[0]}, "
            f"got the shape {tuple(rows.shape)}."
        )
    if rows.numel():
        first, last = (int(end) for end in torch.aminmax(rows))
        if first < 0 or last >= query.shape[2]:
            raise ArgumentError(f"rows must lie in 0 to {query.shape[2] - 1}, got {first} to {last}.")
    return rows.to(query.device)


def check_query_mask(query_mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return ``query_mask`` itself, or raise.

    Raises:
        DtypeError: it is not boolean.
        ArgumentError: it is not (batch, q_len).
    """
    if query_mask is None:
        return None
    if query_mask.dtype != torch.bool:
        raise DtypeError(f"query_mask must be boolean with True = the query counts, got {query_mask.dtype}.")
    if query_mask.shape != (query.shape[0], query.shape[2]):
        raise ArgumentError(
            f"query_mask must be (batch, q_len) = {(query.shape[0], query.shape[2])}, "
            f"got the shape {tuple(query_mask.shape)}."
        )
    return query_mask


def value_norms(value: Tensor | None, leading: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the length of each value, (batch, kv_heads, kv_len), in the type that statistics of ``dtype`` have.

    Raises:
        ArgumentError: ``value`` does not begin with the axes ``leading``, (batch, kv_heads, kv_len).
        DtypeError: it is not floating.
    """
    assert value is not None, "checked by check_names"
    if not value.dtype.is_floating_point:
        raise DtypeError(f"value must be floating, got {value.dtype}; convert it first.")
    if value.ndim != 4 or value.shape[:3] != leading:
        raise ArgumentError(
            f"value must be (batch, kv_heads, kv_len, value_dim) beginning with {tuple(leading)}, "
            f"got the shape {tuple(value.shape)}."
        )
    norms: Tensor = torch.linalg.vector_norm(value.detach(), dim=-1, dtype=accumulation_dtype(dtype))
    return norms
