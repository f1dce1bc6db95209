"""Which projections a kernel's query, key and value came from, found by comparing what was made with what arrived."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.conformance.trace import Heard, Made, Trace

__all__ = ["Origin", "matching_heads", "origin_by_norm", "origins", "origins_by_norm"]

_EQUAL = 1e-4  # relative; rotary tables in float32 keep norms to about 1e-7


@dataclass(frozen=True)
class Origin:
    """A tensor that a projection made, (batch, len, heads, width), and its layer."""

    name: str
    heads: Tensor


def origins(
    trace: Trace, heard: Heard, arrived: Tensor, others: int = 0, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[Origin]:
    """Yield what ``arrived`` may have been made of, the latest first, cut into heads of its width.

    Args:
        trace: the run.
        heard: the attention call.
        arrived: query, key or value of the call, (batch, heads, len, width).
        others: query heads of the call, for projections that make query, key and value together.
        wanted: whether a layer of this name is looked at.
    """
    for made in trace.before(heard):
        if wanted(made.name):
            yield from _cut(made, arrived, others or arrived.shape[1])


def origin_by_norm(trace: Trace, heard: Heard, arrived: Tensor) -> tuple[Origin, Tensor] | None:
    """Return where ``arrived`` came from, up to a rotation and a factor per head, and the factors (heads,); or None.

    Rotary positions keep the norm of each vector, so the ratio of norms is the factor by which it was scaled on its
    way. It is NaN for a head of zeros, such as a pruned one.
    """
    return next(origins_by_norm(trace, heard, arrived), None)


def origins_by_norm(
    trace: Trace, heard: Heard, arrived: Tensor, wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[Origin, Tensor]]:
    """Yield all that ``arrived`` may have come from, the latest first: after a norm, queries have the norms of keys."""
    norms = arrived.double().norm(dim=-1)
    for origin in origins(trace, heard, arrived, heard.call.num_heads, wanted):
        heads = origin.heads.double().norm(dim=-1).transpose(1, 2)
        if arrived.shape[1] % heads.shape[1]:
            continue
        ratio = norms / heads.repeat_interleave(arrived.shape[1] // heads.shape[1], 1).clamp_min(1e-30)
        factors = ratio.transpose(0, 1).flatten(1)
        middle = factors.median(dim=1).values
        if bool(((factors - middle[:, None]).abs() <= _EQUAL * middle[:, None]).all()):
            yield origin, middle.masked_fill((factors == 0).all(1), torch.nan)


def _cut(made: Made, arrived: Tensor, num_heads: int) -> Iterator[Origin]:
    batch, _, length, width = arrived.shape
    for rows in _rows(made.made, batch, length):
        total = rows.shape[-1]
        if total % width:
            continue
        heads = rows.unflatten(-1, (total // width, width))
        parts = total // width
        kv_heads = (parts - num_heads) // 2
        fused = parts > num_heads and parts == num_heads + 2 * kv_heads and num_heads % max(kv_heads, 1) == 0
        if fused:
            for place in (
                slice(0, num_heads),
                slice(num_heads, num_heads + kv_heads),
                slice(num_heads + kv_heads, None),
            ):
                yield Origin(made.name, heads[:, :, place])
            grouped = heads.unflatten(2, (kv_heads, num_heads // kv_heads + 2))
            yield Origin(made.name, grouped[:, :, :, :-2].flatten(2, 3))
            yield Origin(made.name, grouped[:, :, :, -2])
            yield Origin(made.name, grouped[:, :, :, -1])
        elif parts <= num_heads:
            yield Origin(made.name, heads)
        elif parts % 2 == 0 and parts // 2 <= num_heads:
            yield Origin(made.name, heads[:, :, : parts // 2])
            yield Origin(made.name, heads[:, :, parts // 2 :])


def _rows(made: Tensor, batch: int, length: int) -> Iterator[Tensor]:
    """Yield ``made`` as (batch, len, width), however it lies."""
    if made.ndim == 4 and made.shape[0] == batch and made.shape[2] == length:
        yield made.transpose(1, 2).flatten(2)
    if made.ndim == 4 and made.shape[:2] == (batch, length):
        yield made.flatten(2)
    elif (
        made.ndim in (2, 3)
        and made.numel() % (batch * length) == 0
        and made.shape[0] in (batch, length, batch * length)
    ):
        flat = made.reshape(batch * length, -1)
        if made.ndim == 2 or made.shape[:2] == (batch, length):
            yield flat.unflatten(0, (batch, length))
        if made.ndim == 2 or made.shape[:2] == (length, batch):
            yield flat.unflatten(0, (length, batch)).transpose(0, 1)


def matching_heads(arrived: Tensor, origin: Origin) -> Tensor | None:
    """Return which head of ``origin`` each head of ``arrived`` equals, (heads,), or None if one equals none.

    Of several that it equals, such as pruned heads of zeros, that one is taken which belongs to it.
    """
    theirs = origin.heads.transpose(1, 2)
    if theirs.shape[-2:] != arrived.shape[-2:]:
        return None
    difference = (arrived[:, :, None] - theirs[:, None]).abs().amax((0, 3, 4))
    allowed = 1e-9 * max(float(arrived.abs().max()), torch.finfo(torch.float64).tiny)
    best = difference.min(1)
    if not bool((best.values <= allowed).all()):
        return None
    group = max(arrived.shape[1] // theirs.shape[1], 1)
    own = (torch.arange(arrived.shape[1], device=arrived.device) // group).clamp_max(theirs.shape[1] - 1)
    return torch.where(difference.gather(1, own[:, None])[:, 0] <= allowed, own, best.indices)
