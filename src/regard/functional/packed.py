"""Sequences of unequal lengths, one after the other without padding."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional.attention import IMPLEMENTATIONS, attention
from regard.functional.impl.native import native_obstacle
from regard.functional.impl.native_attention import native_with_lse
from regard.functional.masks import query_positions, sliding_window_mask

__all__ = ["packed_attention"]


def packed_attention(
    query: Float[Tensor, "q_len heads head_dim"],
    key: Float[Tensor, "kv_len kv_heads head_dim"],
    value: Float[Tensor, "kv_len kv_heads value_dim"],
    *,
    offsets: Tensor,
    kv_offsets: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    alibi_slopes: Float[Tensor, " heads"] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    impl: str = "auto",
) -> Float[Tensor, "q_len heads value_dim"]:
    """Return attention within each of several sequences that lie one after the other.

    Args:
        query: queries of all sequences.
        key: keys of all sequences; consecutive query heads share a key head.
        value: values of all sequences.
        offsets: integer (sequences + 1,): sequence i has the queries offsets[i] to offsets[i + 1].
        kv_offsets: the same of its keys; those of the queries by default.
        causal: a query sees no later key of its sequence, the last query aligned with the last key.
        window: how many keys back a query sees, itself included (causal), or the largest distance + 1 to either side.
        alibi_slopes: a score gets -slope · distance, one slope a head, as ``alibi_slopes`` returns them.
        scale: factor of the dot products, 1 / √head_dim by default.
        softcap: limit of the absolute scores, no limit by default.
        dropout_p: probability to drop a weight, in [0, 1).
        impl: ``"native"`` computes all sequences in one call; any other backend of ``attention`` one after the other,
            with a mask for a window and a bias for slopes. ``"auto"`` takes the native one where it can run.

    Raises:
        ArgumentError: offsets that do not rise from 0 to the number of tokens; values that fit no formula.
        DtypeError: offsets that are no integers.
        UnsupportedError: a backend asked for by name that cannot do what is asked.

    References:
        Slopes: Press et al., Train short, test long, arXiv:2108.12409; windows: Beltagy et al., arXiv:2004.05150.

    Example:
        >>> query = torch.ones(5, 2, 8)
        >>> packed_attention(query, query, query, offsets=torch.tensor([0, 2, 5]), causal=True).shape
        torch.Size([5, 2, 8])
    """
    if impl not in IMPLEMENTATIONS:
        raise ArgumentError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}.")
    bounds = _checked("offsets", offsets, query.shape[0])
    kv_bounds = _checked("kv_offsets", offsets if kv_offsets is None else kv_offsets, key.shape[0])
    _check_sequences(bounds, kv_bounds, causal=causal, window=window)
    tensors = query.transpose(0, 1)[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None]
    options: dict[str, Any] = {"causal": causal, "scale": scale, "softcap": softcap, "dropout_p": dropout_p}
    obstacle = native_obstacle(*tensors, attn_bias=alibi_slopes)
    if impl == "native" and obstacle is not None:
        raise UnsupportedError(f'impl="native" needs {obstacle}; use impl="auto", "sdpa" or "chunked".')
    if impl in ("auto", "native") and obstacle is None:
        output, *_ = native_with_lse(
            *tensors, window=window, alibi_slopes=alibi_slopes, offsets=(bounds, kv_bounds), **options
        )
        return output[0].transpose(0, 1)
    parts = []
    for (first, end), (kv_first, kv_end) in zip(_pairs(bounds), _pairs(kv_bounds), strict=True):
        rows, keys, values = (
            tensors[0][:, :, first:end],
            tensors[1][:, :, kv_first:kv_end],
            tensors[2][:, :, kv_first:kv_end],
        )
        sides = _sides(end - first, kv_end - kv_first, causal=causal, window=window, slopes=alibi_slopes)
        parts.append(attention(rows, keys, values, impl=impl, **sides, **options)[0].transpose(0, 1))
    return torch.cat(parts) if parts else query.new_empty(*query.shape[:2], value.shape[2])


def _sides(q_len: int, kv_len: int, *, causal: bool, window: int | None, slopes: Tensor | None) -> dict[str, Any]:
    """Return mask and bias of one sequence, where there are any."""
    sides: dict[str, Any] = {}
    if window is not None:
        sides["attn_mask"] = sliding_window_mask(q_len, kv_len, window=window, causal=causal)
    if slopes is not None:
        distance = (query_positions(q_len, kv_len)[:, None] - torch.arange(kv_len)).abs()
        sides["attn_bias"] = -slopes[:, None, None] * distance
    return sides


def _checked(name: str, offsets: Tensor, length: int) -> Tensor:
    if offsets.dtype.is_floating_point or offsets.dtype == torch.bool:
        raise DtypeError(f"{name} must be integers, got {offsets.dtype}; convert them with `.long()`.")
    bounds = offsets.to("cpu", torch.int64).contiguous()
    rises = bounds.ndim == 1 and len(bounds) > 0 and bool((bounds[1:] >= bounds[:-1]).all())
    if not rises or int(bounds[0]) != 0 or int(bounds[-1]) != length:
        raise ArgumentError(
            f"{name} must rise from 0 to the number of tokens, {length}, got {offsets.tolist()}; "
            "give the number of tokens before each sequence, and of all at the end."
        )
    return bounds


def _check_sequences(bounds: Tensor, kv_bounds: Tensor, *, causal: bool, window: int | None) -> None:
    if len(bounds) != len(kv_bounds):
        raise ArgumentError(
            f"offsets and kv_offsets must be of as many sequences, got {len(bounds) - 1} and {len(kv_bounds) - 1}."
        )
    if causal and bool((bounds.diff() > kv_bounds.diff()).any()):
        raise ArgumentError("Causal attention needs at least as many keys as queries in each sequence, got fewer.")
    if window is not None and window < 1:
        raise ArgumentError(f"window must be at least 1 key, got {window}.")


def _pairs(bounds: Tensor) -> list[tuple[int, int]]:
    found: list[int] = bounds.tolist()
    return list(pairwise(found))
