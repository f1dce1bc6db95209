"""Statistics of query rows in one pass over blocks of scores: every statistic, memory linear in the lengths.

Per row the pass keeps a shift m (the given log-sum-exp, or the largest score so far) and sums over the keys of
e = 2^(s - m) times something. Sums of key blocks are merged by rescaling with 2^(m_old - m_new), as in online softmax.
"""

from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.functional.impl.blocks import LN2, LOG2E, Grid, Place
from regard.functional.patterns.layout import Index

__all__ = ["column_sums", "stream"]

Sums = dict[str, Tensor]

_NEEDS = {
    "entropy": {"energy"},
    "collision": {"square"},
    "max_weight": {"max"},
    "max_score": {"max"},
    "min_score": {"min"},
    "score_spread": {"spread"},
    "first_mass": {"first_mass"},
    "self_mass": {"self_mass"},
    "previous_mass": {"previous_mass"},
    "distance": {"distance"},
    "expected_position": {"expected_position"},
    "mass": {"mass"},
    "contribution": {"contribution"},
    "first_contribution": {"contribution", "first_contribution"},
    "num_keys": {"num_keys"},
}
_OFFSETS = {"self_mass": 0, "previous_mass": -1}
_UNSHIFTED = {"shift", "max", "min", "num_keys", "seen", "mean", "deviation"}  # do not change with the shift
_FLOOR = -1.0e4  # 2^-10000 is 0 in every type; it stands for -inf where a product with 0 has to be 0 and not NaN


def stream(
    blocks: Grid,
    wanted: Set[str],
    *,
    lse: Tensor | None = None,
    keys: Tensor | None = None,
    value_norms: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the ``wanted`` statistics and ``lse``, each (batch, heads, rows); rows without keys are not defined.

    Args:
        blocks: the scores.
        wanted: names out of entropy, collision, max_weight, max_score, min_score, score_spread, first_mass, self_mass,
            previous_mass, distance, expected_position, mass, contribution, first_contribution, num_keys (int64).
        lse: log-sum-exp of each row where it is known already.
        keys: (batch, kv_len) factor of each key, summed as ``mass``.
        value_norms: (batch, kv_heads, kv_len) length of each value, summed as ``contribution``.
    """
    needed = frozenset().union(*(_NEEDS[name] for name in wanted))
    task = _Task(blocks, needed, keys, value_norms)
    # PyTorch's CPU kernel returns the lse with strided rows; subtracting it so from every block would be slow.
    given = None if lse is None else blocks.grouped((lse.to(blocks.dtype) * LOG2E).contiguous())
    places = list(blocks.places())
    results: dict[str, Tensor] = {}
    for place in places:
        at = (place.batch, place.heads, slice(None), place.rows)
        found = _finish(_sums_of_rows(task, place, None if given is None else given[at]), wanted)
        if len(places) == 1:
            results = found
            break
        for name, values in found.items():
            if name not in results:
                results[name] = values.new_empty(blocks.shape)
            results[name][at] = values
    if not places:
        results = {name: blocks.empty() for name in (*wanted, "lse")}
    return {name: blocks.ungrouped(values) for name, values in results.items()}


def column_sums(blocks: Grid, lse: Tensor, row_weights: Tensor | None) -> Tensor:
    """Return the weights summed over the queries, (batch, heads, kv_len).

    Args:
        blocks: the scores.
        lse: (batch, heads, rows) log-sum-exp of each row.
        row_weights: (batch, rows) factor of each query, or None for 1.
    """
    received = blocks.empty(*blocks.shape[:3], blocks.kv_len).zero_()
    shift = _finite(blocks.grouped((lse.to(received.dtype) * LOG2E).contiguous()))
    for place in blocks.places():
        rows = shift[place.batch, place.heads, :, place.rows]
        factor = torch.ones_like(rows)
        if row_weights is not None:
            factor = factor * row_weights[place.batch, None, None, place.rows]
        scores_of = blocks.scores_of(place)
        for keys in blocks.key_slices(place):
            weights = scores_of(keys).sub_(rows[..., None]).exp2_()
            received[place.batch, place.heads, :, keys] += (factor[..., None, :] @ weights)[..., 0, :]
    return blocks.ungrouped(received)


@dataclass(frozen=True)
class _Task:
    blocks: Grid
    needed: Set[str]
    keys: Tensor | None
    value_norms: Tensor | None


def _sums_of_rows(task: _Task, place: Place, shift: Tensor | None) -> Sums:
    merged: Sums | None = None
    scores_of = task.blocks.scores_of(place)
    for keys in task.blocks.key_slices(place):
        sums = _sums_of_block(task, place, keys, scores_of(keys), shift)
        merged = sums if merged is None else _merge(merged, sums)
    return _no_keys(task, place) if merged is None else merged


def _sums_of_block(task: _Task, place: Place, keys: Index, scores: Tensor, shift: Tensor | None) -> Sums:
    """Take the sums over one block; ``scores`` is used up."""
    sums = _sums_of_scores(task, scores)
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
    sums |= _sums_by_position(task, place, keys, weights, scratch=scores)
    return sums | _sums_by_key(task, place, keys, weights, scratch=scores)


def _sums_of_scores(task: _Task, scores: Tensor) -> Sums:
    """Take what depends on the scores of visible keys alone: their number, their smallest, their mean and spread."""
    wanted = task.needed & {"min", "spread", "num_keys"}
    if not wanted:
        return {}
    sums: Sums = {}
    width = scores.shape[-1]
    hidden = scores == -torch.inf if task.blocks.is_masked else None
    if hidden is None:
        seen = torch.full(scores.shape[:-1], width, dtype=torch.int64, device=scores.device)
    else:
        seen = width - hidden.sum(-1)
    if "num_keys" in wanted:
        sums["num_keys"] = seen
    if "min" in wanted:
        sums["min"] = (scores if hidden is None else scores.masked_fill(hidden, torch.inf)).amin(-1)
    if "spread" in wanted:
        sums["seen"] = seen.to(scores.dtype)
        known = scores if hidden is None else scores.masked_fill(hidden, 0.0)
        sums["mean"] = known.sum(-1) / sums["seen"].clamp_min(1.0)
        apart = known - sums["mean"][..., None]
        apart = apart if hidden is None else apart.masked_fill_(hidden, 0.0)
        sums["deviation"] = torch.linalg.vecdot(apart, apart)
    return sums


def _sums_by_position(task: _Task, place: Place, keys: Index, weights: Tensor, scratch: Tensor) -> Sums:
    """Take the sums that depend on where a key stands."""
    sums: Sums = {}
    if "first_mass" in task.needed:
        sums["first_mass"] = _first(weights, keys)
    offsets = {name: offset for name, offset in _OFFSETS.items() if name in task.needed}
    by_position = task.needed & {"distance", "expected_position"}
    if not offsets and not by_position:
        return sums
    own = task.blocks.position_tensor(place)
    if offsets:
        wanted = torch.stack([own + offset for offset in offsets.values()], -1)
        sums |= zip(offsets, _weights_at(weights, wanted, keys).unbind(-1), strict=True)
    if by_position:
        positions = task.blocks.key_positions(keys).to(weights.dtype)
    for name in by_position:
        factor = positions if name == "expected_position" else (own.to(weights.dtype)[..., None] - positions).abs_()
        sums[name] = torch.mul(weights, factor, out=scratch).sum(-1)
    return sums


def _sums_by_key(task: _Task, place: Place, keys: Index, weights: Tensor, scratch: Tensor) -> Sums:
    """Take the sums in which each key has a factor of its own."""
    sums: Sums = {}
    if "mass" in task.needed:
        assert task.keys is not None, "mass needs keys"
        sums["mass"] = torch.mul(weights, task.keys[place.batch, None, None, None, keys], out=scratch).sum(-1)
    if "contribution" in task.needed:
        assert task.value_norms is not None, "contribution needs the lengths of the values"
        norms = task.value_norms[place.batch, place.heads, keys]
        parts = torch.mul(weights, norms[:, :, None, None], out=scratch)
        sums["contribution"] = parts.sum(-1)
        if "first_contribution" in task.needed:
            sums["first_contribution"] = _first(parts, keys)
    return sums


def _first(weights: Tensor, keys: Index) -> Tensor:
    """Return each row's weight on the very first key, 0 where it is not in this block."""
    if isinstance(keys, Tensor):
        return weights[..., (keys == 0).to(weights.device)].sum(-1)
    return weights[..., 0].clone() if keys.start == 0 else torch.zeros_like(weights[..., 0])


def _weights_at(weights: Tensor, wanted: Tensor, keys: Index) -> Tensor:
    """Return each row's weights at the keys ``wanted`` (…, rows, wanted), 0 where they are not in this block."""
    if isinstance(keys, Tensor):
        here = keys.to(wanted.device)
        order = here.argsort()
        at = order[torch.searchsorted(here, wanted, sorter=order).clamp_max_(len(here) - 1)]
        inside = here[at] == wanted
    else:
        index = wanted - keys.start
        at = index.clamp(0, weights.shape[-1] - 1)
        inside = at == index
    return weights.gather(-1, at.expand(*weights.shape[:-1], -1)) * inside


def _merge(left: Sums, right: Sums) -> Sums:
    """Join the sums of two sets of keys; associative up to rounding."""
    shift = torch.maximum(left["shift"], right["shift"])
    merged: Sums = {"shift": shift}
    for sums in (left, right):
        move = sums["shift"] - _finite(shift)
        factor = torch.exp2(move)
        if "energy" in sums:
            sums["energy"] = sums["energy"] + torch.nan_to_num(move, neginf=0.0) * sums["total"]
        for name in sums.keys() - _UNSHIFTED:
            part = sums[name] * (factor.square() if name == "square" else factor)
            merged[name] = merged[name] + part if name in merged else part
    for name, join in (("max", torch.maximum), ("min", torch.minimum), ("num_keys", torch.add)):
        if name in left:
            merged[name] = join(left[name], right[name])
    return merged | _merge_spread(left, right) if "deviation" in left else merged


def _merge_spread(left: Sums, right: Sums) -> Sums:
    """Join number, mean and summed squared deviation (Chan, Golub and LeVeque 1983)."""
    seen = left["seen"] + right["seen"]
    apart = right["mean"] - left["mean"]
    share = right["seen"] / seen.clamp_min(1.0)
    return {
        "seen": seen,
        "mean": left["mean"] + apart * share,
        "deviation": left["deviation"] + right["deviation"] + apart.square() * left["seen"] * share,
    }


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
        elif name in ("max_score", "min_score"):
            found[name] = sums[name[:3]] * LN2
        elif name == "score_spread":
            found[name] = (sums["deviation"] / sums["seen"]).sqrt() * LN2
        elif name == "first_contribution":
            found[name] = sums[name] / sums["contribution"]
        elif name == "num_keys":
            found[name] = sums[name]
        else:
            found[name] = sums[name] / total
    return found


def _no_keys(task: _Task, place: Place) -> Sums:
    zero = task.blocks.empty()[place.batch, place.heads, :, place.rows].zero_()
    nothing = dict.fromkeys((*task.needed, "min", "seen", "mean", "deviation"), zero)
    return {**nothing, "shift": zero - torch.inf, "total": zero, "num_keys": zero.to(torch.int64)}


def _finite(shift: Tensor) -> Tensor:
    """Replace -inf, the shift of a row without keys, by 0, so that -inf minus the shift stays -inf."""
    return shift.masked_fill(shift == -torch.inf, 0.0)
