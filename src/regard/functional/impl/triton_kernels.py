"""Triton kernels of attention: forward with row statistics, and backward in two halves, none of them atomic.

This file imports triton and is imported only when a kernel is wanted; ``triton_attention`` is the way in and defines
the tuples that arrive here: ``Heads`` (a pointer and the strides of four axes), ``Shape``, ``Scaling``, ``Statistics``.
What is None in them is compiled away. Scores are in **base 2** and sums in float32. ``rows`` count queries and ``keys``
count keys; each has the shape that its tile asks for, (n, 1) or (1, n).

References:
    Dao, FlashAttention-2, arXiv:2307.08691, algorithms 1 and 2.
"""

# mypy: ignore-errors
# Triton's language is Python in spelling only: its names are pointers and tiles, for which there are no types.

from typing import no_type_check

import triton
import triton.language as tl

__all__ = ["backward_inner", "backward_keys", "backward_queries", "forward"]

LN2 = tl.constexpr(0.6931471805599453)
LOG2E = tl.constexpr(1.4426950408889634)

# ``no_type_check`` keeps the tests' shape hook away, which would put a wrapper between Triton and the source.


@triton.jit
@no_type_check
def forward(
    query,
    key,
    value,
    mask,
    bias,
    output,
    lse,
    statistics,
    shape,
    scaling,
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
    start, batch, head = _place_of_queries(shape, block_q)
    kv_head = head // shape.group
    query_rows = _load(query, batch, head, start, shape.q_len, head_dim, block_q, padded_head, True)
    rows = start + tl.arange(0, block_q)
    own = rows + (shape.kv_len - shape.q_len)
    peak = tl.full([block_q], float("-inf"), tl.float32)
    total = tl.zeros([block_q], tl.float32)
    summed = tl.zeros([block_q, padded_value], tl.float32)
    sums = _no_sums(block_q)
    whole, stop = _key_range(start, shape, block_q, block_k, causal)
    for edge in tl.static_range(2):
        # First the keys that every row may see as far as lengths and causality go, then those where that is tested.
        for first in range(0 if edge == 0 else whole, whole if edge == 0 else stop, block_k):
            keys = first + tl.arange(0, block_k)
            key_rows = _load(key, batch, kv_head, first, shape.kv_len, head_dim, block_k, padded_head, edge == 1)
            scores, _ = _scores(
                _dot(query_rows, tl.trans(key_rows), upcast),
                rows[:, None], keys[None, :], mask, bias, batch, head, shape, scaling, causal, edge == 1,
            )  # fmt: skip
            higher = tl.maximum(peak, tl.max(scores, 1))
            shift = tl.where(higher == float("-inf"), 0.0, higher)  # a finite one keeps -inf minus it at -inf
            weights = tl.exp2(scores - shift[:, None])
            fade = tl.exp2(peak - shift)
            move = tl.where(total > 0, peak - shift, 0.0)
            sums = _add_sums(sums, statistics, scores, weights, shift, fade, move * total, own[:, None], keys[None, :])
            total = total * fade + tl.sum(weights, 1)
            value_rows = _load(value, batch, kv_head, first, shape.kv_len, value_dim, block_k, padded_value, edge == 1)
            summed = summed * fade[:, None] + _dot(weights.to(value_rows.dtype), value_rows, upcast)
            peak = higher

    empty = total == 0
    known = tl.where(empty, 1.0, total)
    found = peak + tl.log2(known)
    at = (batch * shape.heads + head) * shape.q_len
    tl.store(lse + at + rows, found * LN2, mask=rows < shape.q_len)
    _store(output + at * value_dim, summed / known[:, None], start, shape.q_len, value_dim, block_q, padded_value)
    _store_statistics(statistics, sums, peak, known, found, empty, at + rows, own, rows < shape.q_len)


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
    start, batch, head = _place_of_queries(shape, block_q)
    outputs = _load(output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    grads = _load(grad_output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    found = tl.sum(outputs.to(tl.float32) * grads.to(tl.float32), 1)
    rows = start + tl.arange(0, block_q)
    at = (batch * shape.heads + head) * shape.q_len + rows
    inside = rows < shape.q_len
    if grad_lse is not None:
        # A row without keys has lse -inf, of which a gradient of NaN may arrive; it has nothing to pass it on to.
        empty = tl.load(lse + at, mask=inside, other=0.0) == float("-inf")
        found = tl.where(empty, 0.0, found - tl.load(grad_lse + at, mask=inside, other=0.0))
    tl.store(inner + at, found, mask=inside)


@triton.jit
@no_type_check
def backward_queries(
    query,
    key,
    value,
    mask,
    bias,
    grad_output,
    lse,
    inner,
    grad_query,
    shape,
    scaling,
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
    start, batch, head = _place_of_queries(shape, block_q)
    kv_head = head // shape.group
    query_rows = _load(query, batch, head, start, shape.q_len, head_dim, block_q, padded_head, True)
    grad_rows = _load(grad_output, batch, head, start, shape.q_len, value_dim, block_q, padded_value, True)
    rows = start + tl.arange(0, block_q)
    at = (batch * shape.heads + head) * shape.q_len
    shift, common = _of_rows(lse + at, inner + at, rows, shape)
    summed = tl.zeros([block_q, padded_head], tl.float32)
    whole, stop = _key_range(start, shape, block_q, block_k, causal)
    for edge in tl.static_range(2):
        for first in range(0 if edge == 0 else whole, whole if edge == 0 else stop, block_k):
            keys = first + tl.arange(0, block_k)
            key_rows = _load(key, batch, kv_head, first, shape.kv_len, head_dim, block_k, padded_head, edge == 1)
            value_rows = _load(value, batch, kv_head, first, shape.kv_len, value_dim, block_k, padded_value, edge == 1)
            scores, slope = _scores(
                _dot(query_rows, tl.trans(key_rows), upcast),
                rows[:, None], keys[None, :], mask, bias, batch, head, shape, scaling, causal, edge == 1,
            )  # fmt: skip
            grad_weights = _dot(grad_rows, tl.trans(value_rows), upcast)
            grad_scores = tl.exp2(scores - shift[:, None]) * (grad_weights - common[:, None]) * slope
            summed += _dot(grad_scores.to(key_rows.dtype), key_rows, upcast)
    grad_query += at * head_dim
    _store(grad_query, summed * scaling.scale, start, shape.q_len, head_dim, block_q, padded_head)


@triton.jit
@no_type_check
def backward_keys(
    query,
    key,
    value,
    mask,
    bias,
    grad_output,
    lse,
    inner,
    grad_key,
    grad_value,
    shape,
    scaling,
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
    key_rows = _load(key, batch, kv_head, start, shape.kv_len, head_dim, block_k, padded_head, True)
    value_rows = _load(value, batch, kv_head, start, shape.kv_len, value_dim, block_k, padded_value, True)
    keys = start + tl.arange(0, block_k)
    summed_key = tl.zeros([block_k, padded_head], tl.float32)
    summed_value = tl.zeros([block_k, padded_value], tl.float32)
    seeing, whole = _row_range(start, shape, block_q, block_k, causal)
    for member in range(shape.group):
        head = kv_head * shape.group + member
        at = (batch * shape.heads + head) * shape.q_len
        for edge in tl.static_range(2):
            # First the rows on the causal diagonal. Rows past the last weigh nothing and keys past the last are not
            # written: lengths need no test.
            for first in range(seeing if edge == 0 else whole, whole if edge == 0 else shape.q_len, block_q):
                rows = first + tl.arange(0, block_q)
                query_rows = _load(query, batch, head, first, shape.q_len, head_dim, block_q, padded_head, True)
                grad_rows = _load(grad_output, batch, head, first, shape.q_len, value_dim, block_q, padded_value, True)
                shift, common = _of_rows(lse + at, inner + at, rows, shape)
                scores, slope = _scores(
                    _dot(key_rows, tl.trans(query_rows), upcast),
                    rows[None, :], keys[:, None], mask, bias, batch, head, shape, scaling, causal, edge == 0,
                )  # fmt: skip
                weights = tl.exp2(scores - shift[None, :])
                summed_value += _dot(weights.to(grad_rows.dtype), grad_rows, upcast)
                grad_weights = _dot(value_rows, tl.trans(grad_rows), upcast)
                grad_scores = weights * (grad_weights - common[None, :]) * slope
                summed_key += _dot(grad_scores.to(query_rows.dtype), query_rows, upcast)
    grad_key += place * shape.kv_len * head_dim
    grad_value += place * shape.kv_len * value_dim
    _store(grad_key, summed_key * scaling.scale, start, shape.kv_len, head_dim, block_k, padded_head)
    _store(grad_value, summed_value, start, shape.kv_len, value_dim, block_k, padded_value)


@triton.jit
@no_type_check
def _place_of_queries(shape, block_q: tl.constexpr):
    """Return first row, sequence and head of this program; the last rows, which meet most keys if causal, go first."""
    blocks = tl.cdiv(shape.q_len, block_q)
    place = tl.cast(tl.program_id(0) // blocks, tl.int64)  # times a stride it may pass 2^31
    return (blocks - 1 - tl.program_id(0) % blocks) * block_q, place // shape.heads, place % shape.heads


@triton.jit
@no_type_check
def _key_range(start, shape, block_q: tl.constexpr, block_k: tl.constexpr, causal: tl.constexpr):
    """Return where those keys end that all rows of a block may see, in whole blocks, and those that some may see."""
    whole = shape.kv_len // block_k * block_k
    stop = shape.kv_len
    if causal:
        own = start + shape.kv_len - shape.q_len
        whole = tl.minimum(whole, (own + 1) // block_k * block_k)
        stop = tl.minimum(stop, own + block_q)
    return whole, stop


@triton.jit
@no_type_check
def _row_range(start, shape, block_q: tl.constexpr, block_k: tl.constexpr, causal: tl.constexpr):
    """Return the first row that sees some key of a block, and the first from which on all see all; whole blocks."""
    seeing = shape.q_len * 0
    whole = shape.q_len * 0
    if causal:
        row = start - (shape.kv_len - shape.q_len)  # the one that stands at the first key
        seeing = tl.maximum(row, 0) // block_q * block_q
        whole = tl.minimum(tl.cdiv(tl.maximum(row + block_k - 1, 0), block_q) * block_q, shape.q_len)
    return seeing, whole


@triton.jit
@no_type_check
def _scores(
    products, rows, keys, mask, bias, batch, head, shape, scaling, causal: tl.constexpr, edge: tl.constexpr
):  # fmt: skip
    """Return the masked scores of a tile, and the derivative of the softcap at each."""
    scores = products * scaling.factor
    slope = 1.0
    if scaling.softcap is not None:
        bent = _tanh(scores)
        scores = bent * scaling.softcap
        slope = 1.0 - bent * bent
    if bias.base is not None:
        scores += _load_side(bias, batch, head, rows, keys, shape).to(tl.float32) * LOG2E
    if mask.base is not None:
        scores = tl.where(_load_side(mask, batch, head, rows, keys, shape) != 0, scores, float("-inf"))
    if edge:
        seen = keys < shape.kv_len
        if causal:
            seen = seen & (keys <= rows + (shape.kv_len - shape.q_len))
        scores = tl.where(seen, scores, float("-inf"))
    return scores, slope


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
def _no_sums(block_q: tl.constexpr):
    """Return what ``_add_sums`` adds to, for no keys at all."""
    zero = tl.zeros([block_q], tl.float32)
    return zero, zero, zero + float("inf"), zero, zero, zero, zero, zero


@triton.jit
@no_type_check
def _add_sums(sums, statistics, scores, weights, shift, fade, moved, own, keys):
    """Add a block of keys to the sums of which the wanted statistics are made.

    With e the weights and s the scores these are Σ e (s - shift), Σ e², the smallest s, s at the first key, at the
    row's own and at the one before, Σ e |i - j| and Σ e j. ``fade`` is 2^(old shift - new shift), and ``moved`` what
    that difference adds to the first sum, before it fades.
    """
    energy, square, least, first, self, previous, distance, position = sums
    if statistics.entropy is not None:
        apart = tl.where(scores == float("-inf"), 0.0, scores - shift[:, None])
        energy = (energy + moved) * fade + tl.sum(apart * weights, 1)
    if statistics.collision is not None:
        square = square * fade * fade + tl.sum(weights * weights, 1)
    if statistics.min_score is not None:
        least = tl.minimum(least, tl.min(tl.where(scores == float("-inf"), float("inf"), scores), 1))
    if statistics.first_mass is not None:
        first += tl.sum(tl.where(keys == 0, scores, 0.0), 1)
    if statistics.self_mass is not None:
        self += tl.sum(tl.where(keys == own, scores, 0.0), 1)
    if statistics.previous_mass is not None:
        previous += tl.sum(tl.where(keys == own - 1, scores, 0.0), 1)
    if statistics.distance is not None:
        distance = distance * fade + tl.sum(weights * tl.abs(own - keys).to(tl.float32), 1)
    if statistics.expected_position is not None:
        position = position * fade + tl.sum(weights * keys.to(tl.float32), 1)
    return energy, square, least, first, self, previous, distance, position


@triton.jit
@no_type_check
def _store_statistics(statistics, sums, peak, total, lse, empty, at, own, inside):
    """Write the wanted statistics of a block of rows; ``lse`` in base 2, ``total`` 1 where a row is empty."""
    energy, square, least, first, self, previous, distance, position = sums
    lse = tl.where(empty, 0.0, lse)
    _store_row(statistics.entropy, tl.maximum((tl.log2(total) - energy / total) * LN2, 0.0), empty, at, inside)
    _store_row(statistics.collision, square / (total * total), empty, at, inside)
    _store_row(statistics.max_weight, 1.0 / total, empty, at, inside)
    _store_row(statistics.max_score, peak * LN2, empty, at, inside)
    _store_row(statistics.min_score, least * LN2, empty, at, inside)
    _store_row(statistics.first_mass, tl.exp2(first - lse), empty, at, inside)
    _store_row(statistics.self_mass, tl.exp2(self - lse), empty | (own < 0), at, inside)
    _store_row(statistics.previous_mass, tl.exp2(previous - lse), empty | (own < 1), at, inside)
    _store_row(statistics.distance, distance / total, empty, at, inside)
    _store_row(statistics.expected_position, position / total, empty, at, inside)


@triton.jit
@no_type_check
def _store_row(target, found, undefined, at, inside):
    if target is not None:
        tl.store(target + at, tl.where(undefined, float("nan"), found), mask=inside)


@triton.jit
@no_type_check
def _of_rows(lse, inner, rows, shape):
    """Return the shift of the scores, +inf where a row is to weigh nothing at all, and what all its gradients share."""
    shift = tl.load(lse + rows, mask=rows < shape.q_len, other=float("inf")) * LOG2E
    shift = tl.where(shift == float("-inf"), float("inf"), shift)
    return shift, tl.load(inner + rows, mask=rows < shape.q_len, other=0.0)


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


@triton.jit
@no_type_check
def _load(
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
def _store(base, found, start, length, width: tl.constexpr, height: tl.constexpr, padded: tl.constexpr):
    """Store (height, padded) as rows from ``start`` on of a contiguous head, in its own type."""
    rows = tl.cast(start + tl.arange(0, height), tl.int64)[:, None]
    columns = tl.arange(0, padded)[None, :]
    inside = (rows < length) & (columns < width)
    tl.store(base + rows * width + columns, found.to(base.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _dot(left, right, upcast: tl.constexpr):
    """Multiply in the operands' type, float32 without rounding to tf32; sums are float32.

    ``upcast`` is for Triton's interpreter, which multiplies the bits of bfloat16 as if they were integers (3.9.0).
    """
    if upcast:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, input_precision="ieee")
