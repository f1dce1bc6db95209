"""Sequences of unequal lengths, one after the other without padding."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError, UnsupportedError
from regard.functional import taps
from regard.functional.attention import IMPLEMENTATIONS, attention
from regard.functional.impl.native import native_obstacle
from regard.functional.impl.native_attention import native_with_lse
from regard.functional.masks import check_slopes
from regard.functional.offsets import check_integers, check_sequences, checked_offsets

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
        impl: ``"native"`` computes all sequences in one call; any other backend of ``attention`` one after the other.
            ``"auto"`` takes the native one where it can run, and then compiles without a break.

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
    given = {"offsets": offsets, "kv_offsets": offsets if kv_offsets is None else kv_offsets}
    for name, some in given.items():
        check_integers(name, some)
    if alibi_slopes is not None:
        check_slopes(alibi_slopes, query.shape[1])
    tensors = query.transpose(0, 1)[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None]
    options: dict[str, Any] = {
        "causal": causal, "window": window, "alibi_slopes": alibi_slopes, "scale": scale, "softcap": softcap,
        "dropout_p": dropout_p,
    }  # fmt: skip
    obstacle = native_obstacle(*tensors, alibi_slopes=alibi_slopes)
    if impl == "native" and obstacle is not None:
        raise UnsupportedError(f'impl="native" needs {obstacle}; use impl="auto", "sdpa" or "chunked".')
    is_native = impl in ("auto", "native") and obstacle is None
    if is_native and torch.compiler.is_compiling():  # the operator checks numbers that are not known yet
        output, *_ = native_with_lse(*tensors, offsets=(given["offsets"], given["kv_offsets"]), **options)
        return output[0].transpose(0, 1)
    bounds = checked_offsets("offsets", given["offsets"], query.shape[0])
    kv_bounds = checked_offsets("kv_offsets", given["kv_offsets"], key.shape[0])
    check_sequences(bounds, kv_bounds, causal=causal, window=window)
    if is_native:
        output, *_ = native_with_lse(*tensors, offsets=(bounds, kv_bounds), **options)
    else:
        output = _one_by_one(tensors, (bounds, kv_bounds), impl, options)
    return output[0].transpose(0, 1)


def _one_by_one(
    tensors: tuple[Tensor, Tensor, Tensor], offsets: tuple[Tensor, Tensor], impl: str, options: Mapping[str, Any]
) -> Tensor:
    """Return (1, heads, q_len, value_dim) of one sequence after the other, reported as one call."""
    query, key, value = tensors
    parts = [query.new_empty(*query.shape[:2], 0, value.shape[3])]  # there may be no sequence
    with taps.parts_of_a_call():
        for (first, end), (kv_first, kv_end) in zip(*(pairwise(bounds.tolist()) for bounds in offsets), strict=True):
            keys = slice(kv_first, kv_end)
            rows = query[:, :, first:end], key[:, :, keys], value[:, :, keys]
            parts.append(attention(*rows, impl=impl, **options))
    output = torch.cat(parts, 2)
    if taps.LISTENERS and not torch.compiler.is_compiling():
        arguments = {"query": query, "key": key, "value": value, "offsets": offsets, **options}
        taps.report(taps.PACKED, arguments, (output, None))
    return output
