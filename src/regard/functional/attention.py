"""The public ``attention``: its name fixes the mathematics, ``impl`` only says who computes it."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import reference, taps
from regard.functional.impl.chunked import chunked_with_lse
from regard.functional.impl.flex import flex_attend
from regard.functional.impl.native import native_obstacle
from regard.functional.impl.native_attention import native_with_lse
from regard.functional.impl.native_blocks import native_blocks_with_lse
from regard.functional.impl.native_region import native_wins
from regard.functional.impl.sdpa import sdpa, stays_fused
from regard.functional.impl.torch_private import never_compiled
from regard.functional.impl.triton_attention import STATISTICS as TRITON_STATISTICS
from regard.functional.impl.triton_attention import triton_with_lse
from regard.functional.masks import (
    check_bias,
    check_causal_lengths,
    check_mask,
    check_slopes,
    check_window,
    hiding_window,
)
from regard.functional.patterns import Pattern
from regard.functional.patterns.pattern import as_window, check_sequences

__all__ = ["IMPLEMENTATIONS", "attention", "check_arguments", "selected_impl"]

IMPLEMENTATIONS = ("auto", "reference", "sdpa", "chunked", "native", "flex", "triton")
"""Names that ``impl`` takes."""

_SQUARE = 1 << 22  # most numbers of a mask or bias that "auto" lets be built (16 MiB in float32)


# More than eight arguments: each is one that people know from other libraries, and most calls give one or two.
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
    alibi_slopes: Float[Tensor, " heads"] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    impl: str = "auto",
) -> Float[Tensor, "batch heads q_len value_dim"]:
    """Return the values weighted by the softmax of scaled dot products.

    scores = scale · query · keyᵀ, then softcap · tanh(scores / softcap) where asked for, then + ``attn_bias`` and
    - slope · distance, then -inf where a query may not attend; the result is softmax(scores) · value. A query that may
    attend to nothing gets 0, with a gradient of 0. Distances are those of tokens whose last query is the last key.

    Args:
        query: what asks.
        key: what is compared with; ``heads`` must be a multiple of ``kv_heads``, consecutive heads share a key head.
        value: what is summed; its width may differ from ``head_dim``.
        attn_mask: bool, **True = may attend**, broadcasts to (batch, heads, q_len, kv_len).
        attn_bias: float, broadcasts likewise, added to the scores; -inf forbids as a mask does, +inf or NaN makes the
            output of the row NaN.
        causal: a query sees no later key, aligned at the bottom right: the last query sees all keys.
        window: how many keys back a query sees, itself included (causal), or the largest distance + 1 to either side.
        pattern: which keys a query may see by where both stand, as ``regard.functional.patterns`` makes them; closed
            blocks are not computed. Mask, causality and window hold besides.
        alibi_slopes: a score gets -slope · distance, one slope a head, as ``alibi_slopes`` returns them.
        scale: finite factor of the dot products, 1 / √head_dim by default.
        softcap: limit of the absolute scores before bias and mask, above 0 and finite, no limit by default.
        dropout_p: probability to drop a weight, in [0, 1); 0 by default. It is applied whenever it is above 0.
        impl: ``"auto"``, ``"native"`` (the CPU kernels of ``regard-native``), ``"sdpa"`` (PyTorch's kernels),
            ``"chunked"`` (blockwise, memory linear in the lengths, has everything) or ``"reference"`` (dense, eager,
            the oracle). ``selected_impl`` tells what ``"auto"`` takes. By name only, not measured on a GPU: ``"flex"``
            (PyTorch's FlexAttention, compiled on a GPU, dense on a CPU) and ``"triton"`` (regard's kernels for GPUs).

    Returns:
        A tensor of the inputs' dtype.

    Raises:
        ArgumentError: shapes or values that fit no formula, such as causal with more queries than keys.
        DtypeError: a mask that is not boolean, a bias that is not floating, inputs of unequal types.
        UnsupportedError: a backend asked for by name that cannot do what is asked.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, equation 1; grouped heads: Ainslie et al.,
        arXiv:2305.13245; softcap: Gemma 2, arXiv:2408.00118; slopes: Press et al., Train short, test long,
        arXiv:2108.12409; windows: Beltagy et al., arXiv:2004.05150.

    Example:
        >>> import torch
        >>> query, key, value = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4), torch.ones(1, 2, 5, 6)
        >>> attention(query, key, value, causal=True).shape
        torch.Size([1, 2, 3, 6])
    """
    arguments: dict[str, Any] = {"causal": causal, "scale": scale, "softcap": softcap, "dropout_p": dropout_p}
    arguments |= check_arguments(query, key, attn_mask, attn_bias, causal, softcap, window, alibi_slopes, pattern)
    _check_values(query, key, value, dropout_p)
    check_scale(scale)
    chosen = selected_impl(
        query, key, value, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=arguments["window"],
        pattern=arguments["pattern"], alibi_slopes=alibi_slopes, softcap=softcap, dropout_p=dropout_p, impl=impl,
    )  # fmt: skip
    if arguments["pattern"] is not None:
        if chosen == "native" and torch.compiler.is_compiling():
            return native_blocks_with_lse(query, key, value, **arguments)[0]
        return _by_pattern(query, key, value, arguments, chosen)
    del arguments["pattern"]
    if chosen == "reference":
        return reference.attention(query, key, value, **arguments)
    if chosen == "sdpa":
        return sdpa(query, key, value, **arguments)
    if chosen == "native":
        return native_with_lse(query, key, value, **arguments)[0]
    return _REPORTED[chosen](query, key, value, arguments)


def _chunked(query: Tensor, key: Tensor, value: Tensor, arguments: dict[str, Any]) -> Tensor:
    output, lse = chunked_with_lse(query, key, value, **arguments)
    if _is_heard():
        taps.report(taps.CHUNKED, {"query": query, "key": key, "value": value, **arguments}, (output, lse))
    return output


def _flex(query: Tensor, key: Tensor, value: Tensor, arguments: dict[str, Any]) -> Tensor:
    with taps.parts_of_a_call():
        output, lse, _ = flex_attend(query, key, value, wants_lse=_is_heard(), **arguments)
    if _is_heard():
        taps.report(taps.FLEX, {"query": query, "key": key, "value": value, **arguments}, (output, lse))
    return output


def _triton(query: Tensor, key: Tensor, value: Tensor, arguments: dict[str, Any]) -> Tensor:
    wanted = [name for name in taps.wanted() if name in TRITON_STATISTICS] if _is_heard() else []
    output, lse, statistics = triton_with_lse(query, key, value, statistics=wanted, **arguments)
    if _is_heard():
        heard = {"query": query, "key": key, "value": value, **arguments, "statistics": statistics}
        taps.report(taps.TRITON, heard, (output, lse))
    return output


@never_compiled
def _by_pattern(query: Tensor, key: Tensor, value: Tensor, arguments: dict[str, Any], chosen: str) -> Tensor:
    if chosen == "chunked":
        return _chunked(query, key, value, arguments)
    if chosen == "native":
        output, lse = native_blocks_with_lse(query, key, value, **arguments)
        if _is_heard():
            taps.report(taps.NATIVE_BLOCKS, {"query": query, "key": key, "value": value, **arguments}, (output, lse))
        return output
    if chosen != "reference":
        raise UnsupportedError(
            f'impl={chosen!r} has no patterns; use impl="auto", "native" or "chunked", or give its mask as attn_mask.'
        )
    return reference.attention(query, key, value, **arguments)


def _is_heard() -> bool:
    return bool(taps.LISTENERS) and not torch.compiler.is_compiling()


_REPORTED = {"chunked": _chunked, "flex": _flex, "triton": _triton}
"""Backends that no kernel of PyTorch tells of, so that they are reported here."""


def selected_impl(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    impl: str = "auto",
) -> str:
    """Return which backend ``attention`` uses for these arguments: ``impl`` itself unless that is ``"auto"``.

    Raises:
        ArgumentError: ``impl`` is not a backend.
    """
    if impl not in IMPLEMENTATIONS:
        raise ArgumentError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}.")
    if impl != "auto":
        return impl
    if pattern is not None:
        pattern, window = as_window(pattern, causal, window)
    if pattern is not None:
        return "chunked" if native_obstacle(query, key, value, attn_bias, alibi_slopes) else "native"
    window = hiding_window(window, query.shape[2], key.shape[2])
    trains = torch.is_grad_enabled() and query.requires_grad
    if native_wins(query, key, value, trains=trains, attn_bias=attn_bias, window=window, alibi_slopes=alibi_slopes):
        return "native"
    fused = stays_fused(query, (attn_bias, alibi_slopes), softcap, dropout_p)
    needs_square = causal and (attn_mask is not None or attn_bias is not None or 1 < query.shape[2] < key.shape[2])
    squares = int(needs_square or window is not None) if alibi_slopes is None else query.shape[1]
    fits = squares * query.shape[2] * key.shape[2] <= _SQUARE
    return "sdpa" if fused and fits else "chunked"


def check_arguments(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    softcap: float | None,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    pattern: Pattern | None = None,
) -> dict[str, Any]:
    """Check what shapes the scores; return mask and bias with four axes, slopes, and the window if it hides a key.

    A pattern that is a window and nothing else is returned as one, and None in its place.

    Raises:
        ArgumentError: shapes or values that fit no formula.
        DtypeError: types that do not belong.
    """
    _check_tensors({"query": query, "key": key})
    batch, heads, q_len, head_dim = query.shape
    _, kv_heads, kv_len, _ = key.shape
    if head_dim != key.shape[3] or head_dim == 0:
        raise ArgumentError(
            f"query and key must have the same head_dim above 0, got {head_dim} and {key.shape[3]}; "
            "tensors are (batch, heads, len, head_dim)."
        )
    if heads == 0 or kv_heads == 0 or heads % kv_heads:
        raise ArgumentError(
            "The number of query heads must be above 0 and a multiple of the number of key heads, "
            f"got {heads} and {kv_heads}."
        )
    if causal:
        check_causal_lengths(q_len, kv_len)
    if softcap is not None and not 0 < softcap < math.inf:
        raise ArgumentError(f"softcap must be above 0 and finite, got {softcap}; give None for no limit.")
    if window is not None:
        check_window(window)
    if alibi_slopes is not None:
        check_slopes(alibi_slopes, heads)
    if pattern is not None:
        check_sequences(pattern, batch, q_len, kv_len)
        pattern, window = as_window(pattern, causal, window)
    target = (batch, heads, q_len, kv_len)
    return {
        "attn_mask": None if attn_mask is None else check_mask(attn_mask, *target),
        "attn_bias": None if attn_bias is None else check_bias(attn_bias, *target),
        "window": hiding_window(window, q_len, kv_len),
        "alibi_slopes": alibi_slopes,
        "pattern": pattern,
    }


def check_scale(scale: float | None) -> None:
    """Raise ``ArgumentError`` for a factor of the dot products that leaves no number of any of them."""
    if scale is not None and not -math.inf < scale < math.inf:
        raise ArgumentError(f"scale must be finite, got {scale}; give None for 1 / √head_dim.")


def _check_tensors(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim != 4:
            raise ArgumentError(f"{name} must be (batch, heads, len, head_dim), got the shape {tuple(tensor.shape)}.")
        if not tensor.dtype.is_floating_point:
            raise DtypeError(f"{name} must be floating, got {tensor.dtype}; convert it first.")
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        found = ", ".join(f"{name} {tensor.dtype}" for name, tensor in tensors.items())
        raise DtypeError(f"All inputs must have one dtype, got {found}; convert them first.")
    if len({tensor.shape[0] for tensor in tensors.values()}) > 1:
        found = ", ".join(f"{name} {tensor.shape[0]}" for name, tensor in tensors.items())
        raise ArgumentError(f"All inputs must have one batch size, got {found}.")


def _check_values(query: Tensor, key: Tensor, value: Tensor, dropout_p: float) -> None:
    _check_tensors({"query": query, "key": key, "value": value})
    if key.shape[1:3] != value.shape[1:3]:
        raise ArgumentError(
            f"key and value must agree in heads and length, got {tuple(key.shape)} and {tuple(value.shape)}."
        )
    if not 0 <= dropout_p < 1:
        raise ArgumentError(f"dropout_p must lie in [0, 1), got {dropout_p}.")
