"""Triton: from products to masked scores, and which weights are dropped.

Imported only by ``triton_kernels``, which says what arrives here.
"""

# mypy: ignore-errors
# Triton's language is Python in spelling only: its names are pointers and tiles, for which there are no types.

from typing import no_type_check

import triton
import triton.language as tl

__all__ = ["kept", "scores_of", "slope_of"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
@no_type_check
def scores_of(
    products, rows, keys, mask, bias, fall, batch, head, shape, scaling, causal: tl.constexpr, edge: tl.constexpr
):  # fmt: skip
    """Return the masked scores of a tile, and the derivative of the softcap at each.

    ``fall`` is ``slope_of`` the head, and ``edge`` says that causality, window or the number of keys may hide some.
    """
    scores = products * scaling.factor
    slope = 1.0
    if scaling.softcap is not None:
        bent = _tanh(scores)
        scores = bent * scaling.softcap
        slope = 1.0 - bent * bent
    own = rows + (shape.kv_len - shape.q_len)
    if bias.base is not None:
        scores += _load_side(bias, batch, head, rows, keys, shape).to(tl.float32) * LOG2E
    if fall is not None:
        scores -= fall * tl.abs(own - keys).to(tl.float32)
    if mask.base is not None:
        scores = tl.where(_load_side(mask, batch, head, rows, keys, shape) != 0, scores, float("-inf"))
    if edge:
        seen = keys < shape.kv_len
        if causal:
            seen = seen & (keys <= own)
        if shape.window is not None:
            seen = seen & (keys > own - shape.window)
            if not causal:
                seen = seen & (keys < own + shape.window)
        scores = tl.where(seen, scores, float("-inf"))
    return scores, slope


@triton.jit
@no_type_check
def slope_of(slopes, head):
    """Return by how much a step away lowers the scores of a head in base 2, or None."""
    fall = None
    if slopes is not None:
        fall = tl.load(slopes + head) * LOG2E
    return fall


@triton.jit
@no_type_check
def kept(dropout, batch, head, rows, keys, shape):
    """Return by what weights are multiplied: 0 where one is dropped.

    Each has a random number of 32 bits of its own, made from the seed, the head, the row and the key by the very
    formula of the native kernels (``native/src/simd.h``: SplitMix64 for the row, Wellons' lowbias32 for its keys), so
    that both passes drop the same weights, and both backends do for one seed.
    """
    place = tl.cast(batch * shape.heads + head + 1, tl.uint64)
    x = tl.cast(dropout.seed, tl.uint64) + place * 0x9E3779B97F4A7C15
    x = x + tl.cast(rows + 1, tl.uint64) * 0xD1342543DE82EF95
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    x = x ^ (x >> 31)
    found = tl.cast(keys, tl.uint32) * 0x9E3779B9 + x.to(tl.uint32)
    found = found ^ (found >> 16)
    found = found * 0x7FEB352D + (x >> 32).to(tl.uint32)
    found = found ^ (found >> 15)
    found = found * 0x846CA68B
    found = found ^ (found >> 16)
    return tl.where(found >= tl.cast(dropout.below, tl.uint32), dropout.scale, 0.0)


@triton.jit
@no_type_check
def _tanh(x):
    """Return tanh by exp2, and near 0, where that has few digits, by its series; libdevice is not always there."""
    fallen = tl.exp2(tl.abs(x) * (-2.0 * LOG2E))
    far = (1.0 - fallen) / (1.0 + fallen)
    square = tl.minimum(x * x, 0.0625)
    series = -0.333333333 + square * (0.133333333 + square * (-0.0539682540 + square * 0.0218694885))
    return tl.where(tl.abs(x) < 0.25, x + x * square * series, tl.where(x < 0, -far, far))


@triton.jit
@no_type_check
def _load_side(side, batch, head, rows, keys, shape):
    """Load the tile of a mask or bias; only one row of it where all are alike, which a stride of None says."""
    at = side.base + batch * side.strides[0] + head * side.strides[1] + tl.cast(keys, tl.int64) * side.strides[3]
    inside = keys < shape.kv_len
    if side.strides[2] is not None:
        at = at + tl.cast(rows, tl.int64) * side.strides[2]
        inside = inside & (rows < shape.q_len)
    return tl.load(at, mask=inside, other=0)
