"""Triton: what a pass over the keys sums up for each row, and the statistics that follow.

Imported only by ``triton_kernels``, which says what arrives here.
"""

# mypy: ignore-errors
# Triton's language is Python in spelling only: its names are pointers and tiles, for which there are no types.

from typing import no_type_check

import triton
import triton.language as tl

__all__ = ["add_sums", "no_sums", "store_statistics"]

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
@no_type_check
def no_sums(block_q: tl.constexpr):
    """Return what ``add_sums`` adds to, for no keys at all."""
    zero = tl.zeros([block_q], tl.float32)
    none = zero + float("-inf")
    return zero, zero, -none, none, none, none, zero, zero, zero, zero, zero, zero, zero


@triton.jit
@no_type_check
def add_sums(sums, statistics, scores, weights, shift, fade, moved, own, keys, value_rows):
    """Add a block of keys to the sums of which the wanted statistics are made.

    With e the weights, s the scores and v the values these are Σ e (s - shift), Σ e², the smallest s, s at the first
    key, at the row's own and at the one before, Σ e |i - j|, Σ e j, the number of keys seen, their mean s and its
    squared deviation, Σ e |v| and |v| of the first key. ``fade`` is 2^(old shift - new shift), and ``moved`` what that
    difference adds to the first sum, before it fades.
    """
    energy, square, least, first, self, previous, distance, position, seen, mean, apart, lengths, length = sums
    hidden = scores == float("-inf")
    if statistics.entropy is not None:
        below = tl.where(hidden, 0.0, scores - shift[:, None])
        energy = (energy + moved) * fade + tl.sum(below * weights, 1)
    if statistics.collision is not None:
        square = square * fade * fade + tl.sum(weights * weights, 1)
    if statistics.min_score is not None:
        least = tl.minimum(least, tl.min(tl.where(hidden, float("inf"), scores), 1))
    if statistics.score_spread is not None:
        seen, mean, apart = _spread(seen, mean, apart, scores, hidden)
    if statistics.first_mass is not None or statistics.first_contribution is not None:
        first = _score_at(first, scores, keys == 0)
    if statistics.self_mass is not None:
        self = _score_at(self, scores, keys == own)
    if statistics.previous_mass is not None:
        previous = _score_at(previous, scores, keys == own - 1)
    if statistics.distance is not None:
        distance = distance * fade + tl.sum(weights * tl.abs(own - keys).to(tl.float32), 1)
    if statistics.expected_position is not None:
        position = position * fade + tl.sum(weights * keys.to(tl.float32), 1)
    weighs = statistics.contribution is not None or statistics.first_contribution is not None
    lengths, length = _lengths(lengths, length, fade, weights, keys, value_rows, weighs)
    return energy, square, least, first, self, previous, distance, position, seen, mean, apart, lengths, length


@triton.jit
@no_type_check
def _score_at(found, scores, here):
    """Return the score of a named key, -inf where it was not met."""
    return tl.maximum(found, tl.max(tl.where(here, scores, float("-inf")), 1))


@triton.jit
@no_type_check
def _lengths(lengths, length, fade, weights, keys, value_rows, wanted: tl.constexpr):
    """Add the lengths of the values, weighed, and that of the first."""
    if wanted:
        wide = value_rows.to(tl.float32)
        norms = tl.sqrt(tl.sum(wide * wide, 1))[None, :]
        lengths = lengths * fade + tl.sum(weights * norms, 1)
        length += tl.sum(tl.where(keys == 0, norms, 0.0), 1)
    return lengths, length


@triton.jit
@no_type_check
def _spread(seen, mean, apart, scores, hidden):
    """Join number, mean and squared deviation with those of a block of keys (Chan, Golub and LeVeque 1983)."""
    others = tl.sum(tl.where(hidden, 0.0, 1.0), 1)
    other_mean = tl.sum(tl.where(hidden, 0.0, scores), 1) / tl.maximum(others, 1.0)
    off = tl.where(hidden, 0.0, scores - other_mean[:, None])
    share = others / tl.maximum(seen + others, 1.0)
    moved = other_mean - mean
    apart += tl.sum(off * off, 1) + moved * moved * seen * share
    return seen + others, mean + moved * share, apart


@triton.jit
@no_type_check
def store_statistics(statistics, sums, peak, total, lse, empty, at, own, inside):
    """Write the wanted statistics of a block of rows; ``lse`` in base 2, ``total`` 1 where a row is empty."""
    energy, square, least, first, self, previous, distance, position, seen, _, apart, lengths, length = sums
    lse = tl.where(empty, 0.0, lse)
    _store_row(statistics.entropy, tl.maximum((tl.log2(total) - energy / total) * LN2, 0.0), empty, at, inside)
    _store_row(statistics.collision, square / (total * total), empty, at, inside)
    _store_row(statistics.max_weight, 1.0 / total, empty, at, inside)
    _store_row(statistics.max_score, peak * LN2, empty, at, inside)
    _store_row(statistics.min_score, least * LN2, empty, at, inside)
    _store_row(statistics.score_spread, tl.sqrt(apart / tl.maximum(seen, 1.0)) * LN2, empty, at, inside)
    _store_row(statistics.first_mass, tl.exp2(first - lse), empty, at, inside)
    _store_row(statistics.self_mass, tl.exp2(self - lse), empty | (own < 0), at, inside)
    _store_row(statistics.previous_mass, tl.exp2(previous - lse), empty | (own < 1), at, inside)
    _store_row(statistics.distance, distance / total, empty, at, inside)
    _store_row(statistics.expected_position, position / total, empty, at, inside)
    _store_row(statistics.contribution, lengths / total, empty, at, inside)
    opened = tl.where(empty, 0.0, tl.exp2(first - tl.where(empty, 0.0, peak))) * length
    nothing = empty | (lengths == 0)
    _store_row(statistics.first_contribution, opened / tl.where(nothing, 1.0, lengths), nothing, at, inside)


@triton.jit
@no_type_check
def _store_row(target, found, undefined, at, inside):
    if target is not None:
        tl.store(target + at, tl.where(undefined, float("nan"), found), mask=inside)
