"""Statistics of query rows in one pass over blocks of scores: every statistic, memory linear in the lengths.

Per row the pass keeps a shift m (the given log-sum-exp, or the largest score so far) and sums over the keys of
e = 2^(s - m) times something. Sums of key blocks are merged by rescaling with 2^(m_old - m_new), as in online softmax.
"""

from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.functional.impl.blocks import LN2, LOG2E, Place, ScoreBlocks

__all__ = ["column_sums", "stream"]

Sums = dict[str, Tensor]

_NEEDS = {
    "entropy": {"energy"},
    "collision": {"square"},
    "max_weight": {"max"},
    "max_score": {"max"},
    "first_mass": {"first_mass"},
    "self_mass": {"self_mass"},
    "previous_mass": {"previous_mass"},
    "distance": {"distance"},
    "expected_position": {"expected_position"},
    "mass": {"mass"},
}
_FLOOR = -1.0e4  # 2^-10000 is 0 in every type; it stands for -inf where a product with 0 has to be 0 and not NaN


def stream(
    blocks: ScoreBlocks, wanted: Set[str], *, lse: Tensor | None = None, keys: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the ``wanted`` statistics and ``lse``, each (batch, heads, rows); rows without keys are not defined.

    Args:
        blocks: the scores.
        wanted: names out of entropy, collision, max_weight, max_score, first_mass, self_mass, previous_mass, distance,
            expected_position, mass.
        lse: log-sum-exp of each row where it is known already.
        keys: (batch, kv_len) factor of each key, summed as ``mass``.
    """
    needed = frozenset().union(*(_NEEDS[name] for name in wanted))
    shape = blocks.query.shape[:4]
    results = {name: blocks.query.new_empty(shape) for name in (*wanted, "lse")}
    task = _Task(blocks, needed, keys)
    # PyTorch's CPU kernel returns the lse with strided rows; subtracting it so from every block would be slow.
    given = None if lse is None else blocks.grouped((lse.to(blocks.query.dtype) * LOG2E).contiguous())
    for place in blocks.places():
        shift = None if given is None else given[place.batch, place.heads, :, place.rows]
        sums = _sums_of_rows(task, place, shift)
        for name, values in _finish(sums, wanted).items():
            results[name][place.batch, place.heads, :, place.rows] = values
    return {name: blocks.ungrouped(values) for name, values in results.items()}


def column_sums(blocks: ScoreBlocks, lse: Tensor, row_weights: Tensor | None) -> Tensor:
    """Return the weights summed over the queries, (batch, heads, kv_len).

    Args:
        blocks: the scores.
        lse: (batch, heads, rows) log-sum-exp of each row.
        row_weights: (batch, rows) factor of each query, or None for 1.
    """
    batch, kv_heads, group, _, _ = blocks.query.shape
    received = blocks.query.new_zeros(batch, kv_heads, group, blocks.kv_len)
    shift = _finite(blocks.grouped((lse.to(received.dtype) * LOG2E).contiguous()))
    for place in blocks.places():
        rows = shift[place.batch, place.heads, :, place.rows]
        factor = torch.ones_like(rows)
        if row_weights is not None:
            factor = factor * row_weights[place.batch, None, None, place.rows]
        query_rows = blocks.query_rows(place)
        for keys in blocks.key_slices(place.rows):
            weights = blocks.scores(place, keys, query_rows).sub_(rows[..., None]).exp2_()
            received[place.batch, place.heads, :, keys] += (factor[..., None, :] @ weights)[..., 0, :]
    return blocks.ungrouped(received)


@dataclass(frozen=True)
class _Task:
    blocks: ScoreBlocks
    needed: Set[str]
    keys: Tensor | None


def _sums_of_rows(task: _Task, place: Place, shift: Tensor | None) -> Sums:
    merged: Sums | None = None
    query_rows = task.blocks.query_rows(place)
    for keys in task.blocks.key_slices(place.rows):
        sums = _sums_of_block(task, place, keys, task.blocks.scores(place, keys, query_rows), shift)
        merged = sums if merged is None else _merge(merged, sums)
    return _no_keys(task, place) if merged is None else merged


def _sums_of_block(task: _Task, place: Place, keys: slice, scores: Tensor, shift: Tensor | None) -> Sums:
    """Take the sums over one block; ``scores`` is used up."""
    sums: Sums = {}
    if shift is None or "max" in task.needed:
        sums["max"] = scores.amax(-1)
    sums["shift"] = sums["max"] if shift is None else shift
    scores.sub_(_finite(sums["shift"])[..., None])
    weights = torch.exp2(scores)
    sums["total"] = weights.sum(-1)
    if "energy" in task.needed:
        if task.blocks.is_masked:
            scores.clamp_min_(_FLOOR)
        sums["energy"] = scores.mul_(weights).sum(-1)
    if "square" in task.needed:
        sums["square"] = torch.linalg.vector_norm(weights, dim=-1).square_()
    return sums | _sums_by_key(task, place, keys, weights, scratch=scores)


def _sums_by_key(task: _Task, place: Place, keys: slice, weights: Tensor, scratch: Tensor) -> Sums:
    """Take the sums that depend on which key a weight is on."""
    sums: Sums = {}
    own = task.blocks.position_tensor(place.rows)
    positions = torch.arange(keys.start, keys.stop, dtype=weights.dtype, device=weights.device)
    factors = {
        "expected_position": lambda: positions,
        "distance": lambda: (own.to(weights.dtype)[:, None] - positions).abs_(),
        "mass": lambda: _key_factors(task, place, keys),
    }
    for name in factors.keys() & task.needed:
        sums[name] = torch.mul(weights, factors[name](), out=scratch).sum(-1)
    for name, key in (("first_mass", torch.zeros_like(own)), ("self_mass", own), ("previous_mass", own - 1)):
        if name in task.needed:
            sums[name] = _weight_at(weights, key - keys.start)
    return sums


def _key_factors(task: _Task, place: Place, keys: slice) -> Tensor:
    assert task.keys is not None, "mass needs keys"
    return task.keys[place.batch, None, None, None, keys]


def _weight_at(weights: Tensor, index: Tensor) -> Tensor:
    """Return each row's weight at ``index`` (rows,), 0 where it lies outside this block."""
    width = weights.shape[-1]
    inside = (index >= 0) & (index < width)
    at = index.clamp(0, width - 1)[:, None].expand(*weights.shape[:-1], 1)
    return weights.gather(-1, at)[..., 0] * inside


def _merge(left: Sums, right: Sums) -> Sums:
    """Join the sums of two sets of keys; associative up to rounding."""
    shift = torch.maximum(left["shift"], right["shift"])
    merged: Sums = {"shift": shift}
    for sums in (left, right):
        move = sums["shift"] - _finite(shift)
        factor = torch.exp2(move)
        if "energy" in sums:
            sums["energy"] = sums["energy"] + torch.nan_to_num(move, neginf=0.0) * sums["total"]
        for name in sums.keys() - {"shift", "max"}:
            part = sums[name] * (factor.square() if name == "square" else factor)
            merged[name] = merged[name] + part if name in merged else part
    if "max" in left:
        merged["max"] = torch.maximum(left["max"], right["max"])
    return merged


def _finish(sums: Sums, wanted: Set[str]) -> dict[str, Tensor]:
    total = sums["total"]
    log_total = total.log2()
    found = {"lse": (sums["shift"] + log_total) * LN2}
    for name in wanted:
        if name == "entropy":
            found[name] = ((log_total - sums["energy"] / total) * LN2).clamp_min_(0.0)
        elif name == "collision":
            found[name] = sums["square"] / total.square()
        elif name == "max_weight":
            found[name] = torch.exp2(sums["max"] - sums["shift"]) / total
        elif name == "max_score":
            found[name] = sums["max"] * LN2
        else:
            found[name] = sums[name] / total
    return found


def _no_keys(task: _Task, place: Place) -> Sums:
    zero = torch.zeros_like(task.blocks.query[place.batch, place.heads, :, place.rows, 0])
    return {"shift": zero - torch.inf, "total": zero, **dict.fromkeys(task.needed, zero)}


def _finite(shift: Tensor) -> Tensor:
    """Replace -inf, the shift of a row without keys, by 0, so that -inf minus the shift stays -inf."""
    return shift.masked_fill(shift == -torch.inf, 0.0)
