"""The weights of one block of rows and keys, for whoever asks to look at them."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.call import checked_call, quiet
from regard.functional.impl.blocks import LOG2E, ScoreBlocks, accumulation_dtype, positions_of
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_streaming import stream
from regard.functional.masks import combine
from regard.functional.patterns import Pattern

__all__ = ["attention_weights"]

Index = range | Tensor
"""Which rows or keys: a range, of which views can be taken, or int64 of one axis."""

_COPIED = 1 << 20  # entries of a mask or bias that may be copied at a time


def attention_weights(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    rows: Tensor | slice | None = None,
    keys: Tensor | slice | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
) -> Float[Tensor, "batch heads rows keys"]:
    """Return the attention weights of the requested rows and keys, exact, without the rest of the matrix.

    The softmax is over all keys that a row may see, so the weights of a block sum to less than 1. Beside the result
    only blocks of scores are held; with ``lse`` no score outside of the request is computed. No gradients.

    Args:
        query: as given to the attention call, after any rotation.
        key: likewise.
        rows: query rows wanted, a slice or int64 indices (rows,); all by default.
        keys: keys wanted, a slice or int64 indices (keys,); all by default.
        attn_mask: as for ``attention``; the other arguments too.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        window: as for ``attention``.
        pattern: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known.

    Returns:
        0 to 1, float32 (float64 for float64 inputs); 0 for a row that may see no key.

    Raises:
        ArgumentError: an index out of range, a slice that goes backwards, shapes that do not fit.
        DtypeError: types that do not belong.

    Example:
        >>> query, key = torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 4, 8)
        >>> attention_weights(query, key, rows=slice(2, 4), keys=torch.tensor([0, 3]), causal=True)[0, 0]
        tensor([[0.3333, 0.0000],
                [0.2500, 0.2500]])
    """
    with quiet(query):
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        row_index = _checked_index("rows", rows, query.shape[2], query.device)
        key_index = _checked_index("keys", keys, key.shape[2], query.device)
        known = _lse_of(call, row_index)
        dtype = accumulation_dtype(query.dtype)
        wanted_keys = call.key[:, :, _at(key_index)].to(dtype)
        batch, heads = query.shape[:2]
        found = torch.empty(batch, heads, len(row_index), len(key_index), dtype=dtype, device=query.device)
        step = max(1, _COPIED // max(1, batch * heads * len(key_index)))
        for start in range(0, len(row_index), step):
            some = slice(start, start + step)
            blocks = _blocks(call, wanted_keys, row_index[some], key_index)
            _fill(found[:, :, some], blocks, known[:, :, some])
        return found


def _checked_index(name: str, wanted: Tensor | slice | None, length: int, device: torch.device) -> Index:
    if wanted is None:
        return range(length)
    if isinstance(wanted, slice):
        if wanted.step is not None and wanted.step < 1:
            raise ArgumentError(f"{name} must be a slice that goes forwards, got {wanted}; give indices instead.")
        return range(length)[wanted]
    if wanted.dtype != torch.int64:
        raise DtypeError(f"{name} must be int64, got {wanted.dtype}; convert them with `{name}.long()`.")
    if wanted.ndim != 1:
        raise ArgumentError(f"{name} must have one axis, got the shape {tuple(wanted.shape)}.")
    if wanted.numel():
        first, last = (int(end) for end in torch.aminmax(wanted))
        if first < 0 or last >= length:
            raise ArgumentError(f"{name} must lie in 0 to {length - 1}, got {first} to {last}.")
    return wanted.to(device)


def _at(index: Index) -> Tensor | slice:
    return index if isinstance(index, Tensor) else slice(index.start, index.stop, index.step)


def _lse_of(call: RowsCall, rows: Index) -> Tensor:
    if call.lse is not None:
        return call.lse[:, :, _at(rows)]
    everything = isinstance(rows, range) and len(rows) == call.query.shape[2]
    picked = None if everything else positions_of(rows, call.key.device)
    return torch.cat([stream(part.blocks(), frozenset())["lse"] for part in call.parts(picked)], -1)


def _blocks(call: RowsCall, wanted_keys: Tensor, rows: Index, keys: Index) -> ScoreBlocks:
    mask = None if call.attn_mask is None else _part(call.attn_mask, rows, keys)
    bias = None if call.attn_bias is None else _part(call.attn_bias, rows, keys)
    if call.is_placed:
        assert isinstance(call.positions, range), "a call with all its rows"
        own = positions_of(rows, wanted_keys.device) + call.positions.start
        at = positions_of(keys, wanted_keys.device)
        ahead = at - own[:, None]
        mask = combine(mask, *_near(call, ahead[None, None]), _of_pattern(call.pattern, own[:, None], at))
        if call.alibi_slopes is not None:
            lower = call.alibi_slopes.to(wanted_keys.dtype)[:, None, None] * -ahead.abs()
            bias = lower[None] if bias is None else bias + lower
    return ScoreBlocks(
        call.query[:, :, _at(rows)],
        wanted_keys,
        attn_mask=mask,
        attn_bias=bias,
        causal=False,
        scale=call.scale,
        softcap=call.softcap,
    )


def _near(call: RowsCall, ahead: Tensor) -> Iterator[Tensor]:
    """Yield what causality and the window allow, of keys so far ahead of their queries."""
    if call.causal:
        yield ahead <= 0
    if call.window is not None:
        yield ahead.abs() < call.window


def _of_pattern(pattern: Pattern | None, rows: Tensor, keys: Tensor) -> Tensor | None:
    """Return what the pattern allows, (batch or 1, 1, rows, keys)."""
    if pattern is None:
        return None
    found = [pattern.sequence(index).allows(rows, keys) for index in range(pattern.batch)]
    return torch.stack(found)[:, None]


def _part(side: Tensor, rows: Index, keys: Index) -> Tensor:
    """Return some rows and keys of a mask or bias of four axes; views where both are ranges."""
    row_at = slice(None) if side.shape[2] == 1 else _at(rows)
    key_at = slice(None) if side.shape[3] == 1 else _at(keys)
    if isinstance(row_at, Tensor) and isinstance(key_at, Tensor):
        row_at = row_at[:, None]
    return side[:, :, row_at, key_at]


def _fill(found: Tensor, blocks: ScoreBlocks, lse: Tensor) -> None:
    target = found.unflatten(1, blocks.shape[1:3])
    shift = blocks.grouped(lse.to(found.dtype).masked_fill(lse == -torch.inf, 0.0) * LOG2E)[..., None]
    for place in blocks.places():
        at = (place.batch, place.heads, slice(None), place.rows)
        scores_of = blocks.scores_of(place)
        for keys in blocks.key_slices(place):
            target[at][..., keys] = scores_of(keys).sub_(shift[at]).exp2_()
