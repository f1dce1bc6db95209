"""Triton: which part of a call a program has, which keys or queries it meets, and how tiles are loaded and stored.

Imported only by ``triton_kernels``, which says what arrives here.
"""

# mypy: ignore-errors
# Triton's language is Python in spelling only: its names are pointers and tiles, for which there are no types.

from typing import no_type_check

import triton
import triton.language as tl

__all__ = ["dot", "key_range", "load", "of_rows", "part_of", "place_of_queries", "row_range", "store"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
@no_type_check
def place_of_queries(shape, block_q: tl.constexpr):
    """Return first row, sequence and head of this program; the last rows, which meet most keys if causal, go first."""
    blocks = tl.cdiv(shape.q_len, block_q)
    place = tl.cast(tl.program_id(0) // blocks, tl.int64)  # times a stride it may pass 2^31
    return (blocks - 1 - tl.program_id(0) % blocks) * block_q, place // shape.heads, place % shape.heads


@triton.jit
@no_type_check
def key_range(start, shape, block_q: tl.constexpr, block_k: tl.constexpr, causal: tl.constexpr):
    """Return where the keys begin and end that some row of a block may see, and between them those that all may see.

    That is begin, whole, edge, stop, in whole blocks but the last: from ``whole`` to ``edge`` no key need be tested.
    """
    own = start + shape.kv_len - shape.q_len
    begin = start * 0
    whole = start * 0
    edge = start * 0 + shape.kv_len // block_k * block_k
    stop = start * 0 + shape.kv_len
    if causal:
        edge = tl.minimum(edge, (own + 1) // block_k * block_k)
        stop = tl.minimum(stop, own + block_q)
    if shape.window is not None:
        begin = tl.maximum(own - shape.window + 1, 0) // block_k * block_k
        whole = tl.cdiv(tl.maximum(own + block_q - shape.window, 0), block_k) * block_k
        if not causal:
            edge = tl.minimum(edge, tl.maximum(own + shape.window, 0) // block_k * block_k)
            stop = tl.minimum(stop, own + block_q - 1 + shape.window)
        whole, edge = _or_none(begin, whole, edge)
    return begin, whole, edge, stop


@triton.jit
@no_type_check
def row_range(start, shape, block_q: tl.constexpr, block_k: tl.constexpr, causal: tl.constexpr):
    """Return the same of the rows that may see a block of keys.

    Rows past the last weigh nothing, and keys past the last are not written, so that lengths need no test.
    """
    row = start - (shape.kv_len - shape.q_len)  # the one that stands at the first key
    begin = start * 0
    whole = start * 0
    edge = start * 0 + shape.q_len
    stop = start * 0 + shape.q_len
    if causal:
        begin = tl.maximum(row, 0) // block_q * block_q
        whole = tl.minimum(tl.cdiv(tl.maximum(row + block_k - 1, 0), block_q) * block_q, shape.q_len)
    if shape.window is not None:
        if not causal:
            begin = tl.maximum(row - shape.window + 1, 0) // block_q * block_q
            whole = tl.cdiv(tl.maximum(row + block_k - shape.window, 0), block_q) * block_q
        past = row + shape.window  # the first that does not see the first key any more
        edge = tl.where(past >= shape.q_len, shape.q_len, tl.maximum(past, 0) // block_q * block_q)
        stop = tl.minimum(shape.q_len, past + block_k - 1)
        whole, edge = _or_none(begin, whole, edge)
    return begin, whole, edge, stop


@triton.jit
@no_type_check
def _or_none(begin, whole, edge):
    """Return ``whole`` and ``edge``, or twice ``begin`` where nothing lies between them: then all is tested."""
    some = whole < edge
    return tl.where(some, whole, begin), tl.where(some, edge, begin)


@triton.jit
@no_type_check
def part_of(begin, whole, edge, stop, part: tl.constexpr):
    """Return from where to where a part goes: 0 before what all may see, 1 that, 2 after it."""
    low = begin
    high = whole
    if part == 1:
        low = whole
        high = edge
    elif part == 2:
        low = edge
        high = stop
    return low, high


@triton.jit
@no_type_check
def of_rows(lse, inner, rows, shape):
    """Return the shift of the scores, +inf where a row is to weigh nothing at all, and what all its gradients share."""
    shift = tl.load(lse + rows, mask=rows < shape.q_len, other=float("inf")) * LOG2E
    shift = tl.where(shift == float("-inf"), float("inf"), shift)
    return shift, tl.load(inner + rows, mask=rows < shape.q_len, other=0.0)


@triton.jit
@no_type_check
def load(
    heads, batch, head, start, length,
    width: tl.constexpr, height: tl.constexpr, padded: tl.constexpr, edge: tl.constexpr,
):  # fmt: skip
    """Load (height, padded) from row ``start`` on, 0 outside; ``edge`` says that some rows may be outside."""
    rows = tl.arange(0, height)[:, None]
    columns = tl.arange(0, padded)[None, :]
    base = heads.base + batch * heads.strides[0] + head * heads.strides[1] + tl.cast(start, tl.int64) * heads.strides[2]
    at = base + tl.cast(rows, tl.int64) * heads.strides[2] + tl.cast(columns, tl.int64) * heads.strides[3]
    if edge and width < padded:
        found = tl.load(at, mask=(start + rows < length) & (columns < width), other=0.0)
    elif edge:
        found = tl.load(at, mask=start + rows < length, other=0.0)
    elif width < padded:
        found = tl.load(at, mask=columns < width, other=0.0)
    else:
        found = tl.load(at)
    return found


@triton.jit
@no_type_check
def store(base, found, start, length, width: tl.constexpr, height: tl.constexpr, padded: tl.constexpr):
    """Store (height, padded) as rows from ``start`` on of a contiguous head, in its own type."""
    rows = tl.cast(start + tl.arange(0, height), tl.int64)[:, None]
    columns = tl.arange(0, padded)[None, :]
    inside = (rows < length) & (columns < width)
    tl.store(base + rows * width + columns, found.to(base.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def dot(left, right, upcast: tl.constexpr):
    """Multiply in the operands' type, float32 without rounding to tf32; sums are float32.

    ``upcast`` is for Triton's interpreter, which multiplies the bits of bfloat16 as if they were integers (3.9.0).
    """
    if upcast:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, input_precision="ieee")
