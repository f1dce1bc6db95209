"""Triton kernels of attention: forward with row statistics, and backward in two halves, none of them atomic.

This file imports triton and is imported only when a kernel is wanted; ``triton_attention`` is the way in and defines
the tuples that arrive here: ``Heads`` (a pointer and the strides of four axes), ``Shape``, ``Scaling``, ``Dropout``,
``Statistics``. What is None in them is compiled away. Scores are in **base 2** and sums in float32. ``rows`` count
queries and ``keys`` count keys; each has the shape that its tile asks for, (n, 1) or (1, n).

What causality and window close is not met: loops run over what some row of a block may see, in three parts, of which
the middle one, that all rows may see, is not tested.

References:
    Dao, FlashAttention-2, arXiv:2307.08691, algorithms 1 and 2.
"""

# mypy: ignore-errors
# Triton's language is Python in spelling only: its names are pointers and tiles, for which there are no types.

from typing import no_type_check

import triton
import triton.language as tl

from regard.functional.impl.triton_scores import kept, scores_of, slope_of
from regard.functional.impl.triton_sums import add_sums, no_sums, store_statistics
from regard.functional.impl.triton_tiles import (
    dot,
    key_range,
    load,
    of_rows,
    part_of,
    place_of_queries,
    row_range,
    store,
)

__all__ = ["backward_inner", "backward_keys", "backward_queries", "forward"]

LN2 = tl.constexpr(0.6931471805599453)

# ``no_type_check`` keeps the tests' shape hook away, which would put a wrapper between Triton and the source.


@triton.jit(do_not_specialize=["dropout"])  # or a seed that 16 divides would be compiled anew
@no_type_check
def forward(
    query,
    key,
    value,
    mask,
    bias,
    slopes,
    output,
    lse,
    statistics,
    shape,
    scaling,
    dropout,
    head_dim: tl.constexpr,
    value_dim: tl.constexpr,
    padded_head: tl.constexpr,
    padded_value: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    causal: tl.constexpr,
    upcast: tl.constexpr,
):
    """Write output, lse and statistics of one block of queries of one head."""
    start, batch, head = place_of_queries(shape, block_q)
    kv_head = head // shape.group
    query_rows = load(query, batch, head, start, shape.q_len, head_dim, block_q, padded_head, True)
    rows = start + tl.arange(0, block_q)
    own = rows + (shape.kv_len - shape.q_len)
    peak = tl.full([block_q], float("-inf"), tl.float32)
    total = tl.zeros([block_q], tl.float32)
    summed = tl.zeros([block_q, padded_value], tl.float32)
    sums = no_sums(block_q)
    fall = slope_of(slopes, head)
    begin, whole, edge, stop = key_range(start, shape, block_q, block_k, causal)
    for part in tl.static_range(1 if shape.window is None else 0, 3):
        low, high = part_of(begin, whole, edge, stop, part)
        for first in range(low, high, block_k):
            keys = first + tl.arange(0, block_k)
            key_rows = load(key, batch, kv_head, first, shape.kv_len, head_dim, block_k, padded_head, part == 2)
            value_rows = load(value, batch, kv_head, first, shape.kv_len, value_dim, block_k, padded_value, part == 2)
            scores, _ = scores_of(
                dot(query_rows, tl.trans(key_rows), upcast),
                rows[:, None], keys[None, :], mask, bias, fall, batch, head, shape, scaling, causal, part != 1,
            )  # fmt: skip
            higher = tl.maximum(peak, tl.max(scores, 1))
            shift = tl.where(higher == float("-inf"), 0.0, higher)  # a finite one keeps -inf minus it at -inf
            weights = tl.exp2(scores - shift[:, None])
            fade = tl.exp2(peak - shift)
            move = tl.where(total > 0, peak - shift, 0.0)
            sums = add_sums(
                sums, statistics, scores, weights, shift, fade, move * total, own[:, None], keys[None, :], value_rows
            )
            total = total * fade + tl.sum(weights, 1)
            if dropout.seed is not None:
                weights *= kept(dropout, batch, head, rows[:, None], keys[None, :], shape)
            summed = summed * fade[:, None] + dot(weights.to(value_rows.dtype), value_rows, upcast)
            peak = higher

    empty = total == 0
    known = tl.where(empty, 1.0, total)
    found = peak + tl.log2(known)
    at = (batch * shape.heads + head) * shape.q_len
    tl.store(lse + at + rows, found * LN2, mask=rows < shape.q_len)
    store(output + at * value_dim, summed / known[:, None], start, shape.q_len, value_dim, block_q, padded_value)
    store_statistics(statistics, sums, peak, known, found, empty, at + rows, own, rows < shape.q_len)


@triton.jit
@no_type_check
def backward_inner(
    output,
    grad_output,
    grad_lse,
    lse,
    inner,
    shape,
    value_dim: tl.constexpr,
    padded_value: tl.constexpr,
    block_q: tl.constexpr,
):
    """Write Σ output · gradient of output - gradient of lse: what all gradients of scores of a row have in common."""
    start, batch, head = place_of_queries(shape, block_q)
    outputs = load(output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    grads = load(grad_output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    found = tl.sum(outputs.to(tl.float32) * grads.to(tl.float32), 1)
    rows = start + tl.arange(0, block_q)
    at = (batch * shape.heads + head) * shape.q_len + rows
    inside = rows < shape.q_len
    if grad_lse is not None:
        # A row without keys has lse -inf, of which a gradient of NaN may arrive; it has nothing to pass it on to.
        empty = tl.load(lse + at, mask=inside, other=0.0) == float("-inf")
        found = tl.where(empty, 0.0, found - tl.load(grad_lse + at, mask=inside, other=0.0))
    tl.store(inner + at, found, mask=inside)


@triton.jit(do_not_specialize=["dropout"])  # or a seed that 16 divides would be compiled anew
@no_type_check
def backward_queries(
    query,
    key,
    value,
    mask,
    bias,
    slopes,
    grad_output,
    lse,
    inner,
    grad_query,
    shape,
    scaling,
    dropout,
    head_dim: tl.constexpr,
    value_dim: tl.constexpr,
    padded_head: tl.constexpr,
    padded_value: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    causal: tl.constexpr,
    upcast: tl.constexpr,
):
    """Write the gradient of one block of queries of one head."""
    start, batch, head = place_of_queries(shape, block_q)
    kv_head = head // shape.group
    query_rows = load(query, batch, head, start, shape.q_len, head_dim, block_q, padded_head, True)
    grad_rows = load(grad_output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    rows = start + tl.arange(0, block_q)
    at = (batch * shape.heads + head) * shape.q_len
    shift, common = of_rows(lse + at, inner + at, rows, shape)
    summed = tl.zeros([block_q, padded_head], tl.float32)
    fall = slope_of(slopes, head)
    begin, whole, edge, stop = key_range(start, shape, block_q, block_k, causal)
    for part in tl.static_range(1 if shape.window is None else 0, 3):
        low, high = part_of(begin, whole, edge, stop, part)
        for first in range(low, high, block_k):
            keys = first + tl.arange(0, block_k)
            key_rows = load(key, batch, kv_head, first, shape.kv_len, head_dim, block_k, padded_head, part == 2)
            value_rows = load(value, batch, kv_head, first, shape.kv_len, value_dim, block_k, padded_value, part == 2)
            scores, slope = scores_of(
                dot(query_rows, tl.trans(key_rows), upcast),
                rows[:, None], keys[None, :], mask, bias, fall, batch, head, shape, scaling, causal, part != 1,
            )  # fmt: skip
            grad_weights = dot(grad_rows, tl.trans(value_rows), upcast)
            if dropout.seed is not None:
                grad_weights *= kept(dropout, batch, head, rows[:, None], keys[None, :], shape)
            grad_scores = tl.exp2(scores - shift[:, None]) * (grad_weights - common[:, None]) * slope
            summed += dot(grad_scores.to(key_rows.dtype), key_rows, upcast)
    grad_query += at * head_dim
    store(grad_query, summed * scaling.scale, start, shape.q_len, head_dim, block_q, padded_head)


@triton.jit(do_not_specialize=["dropout"])  # or a seed that 16 divides would be compiled anew
@no_type_check
def backward_keys(
    query,
    key,
    value,
    mask,
    bias,
    slopes,
    grad_output,
    lse,
    inner,
    grad_key,
    grad_value,
    shape,
    scaling,
    dropout,
    head_dim: tl.constexpr,
    value_dim: tl.constexpr,
    padded_head: tl.constexpr,
    padded_value: tl.constexpr,
    block_q: tl.constexpr,
    block_k: tl.constexpr,
    causal: tl.constexpr,
    upcast: tl.constexpr,
):
    """Write the gradients of one block of keys and values of one key head, summed over the query heads that share it.

    Tiles are (keys, rows) here, so that the weights need not be transposed for the products.
    """
    blocks = tl.cdiv(shape.kv_len, block_k)
    start = tl.program_id(0) % blocks * block_k
    place = tl.cast(tl.program_id(0) // blocks, tl.int64)
    kv_heads = shape.heads // shape.group
    batch = place // kv_heads
    kv_head = place % kv_heads
    key_rows = load(key, batch, kv_head, start, shape.kv_len, head_dim, block_k, padded_head, True)
    value_rows = load(value, batch, kv_head, start, shape.kv_len, value_dim, block_k, padded_value, True)
    keys = start + tl.arange(0, block_k)
    summed_key = tl.zeros([block_k, padded_head], tl.float32)
    summed_value = tl.zeros([block_k, padded_value], tl.float32)
    begin, whole, edge, stop = row_range(start, shape, block_q, block_k, causal)
    for member in range(shape.group):
        head = kv_head * shape.group + member
        at = (batch * shape.heads + head) * shape.q_len
        fall = slope_of(slopes, head)
        for part in tl.static_range(2 if shape.window is None else 3):
            low, high = part_of(begin, whole, edge, stop, part)
            for first in range(low, high, block_q):
                rows = first + tl.arange(0, block_q)
                query_rows = load(query, batch, head, first, shape.q_len, head_dim, block_q, padded_head, True)
                grad_rows = load(grad_output, batch, head, first, shape.q_len, value_dim, block_q, padded_value, True)
                shift, common = of_rows(lse + at, inner + at, rows, shape)
                scores, slope = scores_of(
                    dot(key_rows, tl.trans(query_rows), upcast),
                    rows[None, :], keys[:, None], mask, bias, fall, batch, head, shape, scaling, causal, part != 1,
                )  # fmt: skip
                weights = tl.exp2(scores - shift[None, :])
                grad_weights = dot(value_rows, tl.trans(grad_rows), upcast)
                passed = weights
                if dropout.seed is not None:
                    keeping = kept(dropout, batch, head, rows[None, :], keys[:, None], shape)
                    grad_weights *= keeping
                    passed = weights * keeping
                summed_value += dot(passed.to(grad_rows.dtype), grad_rows, upcast)
                grad_scores = weights * (grad_weights - common[None, :]) * slope
                summed_key += dot(grad_scores.to(query_rows.dtype), query_rows, upcast)
    grad_key += place * shape.kv_len * head_dim
    grad_value += place * shape.kv_len * value_dim
    store(grad_key, summed_key * scaling.scale, start, shape.kv_len, head_dim, block_k, padded_head)
    store(grad_value, summed_value, start, shape.kv_len, value_dim, block_k, padded_value)
