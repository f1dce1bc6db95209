"""From one captured call to the summary of its statistics."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import ROW_STATISTICS, key_mass, row_statistics
from regard.observe.capture import AttentionCall
from regard.observe.moments import Moments

__all__ = ["Measurement", "measure"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Statistics of one call: their names, their summary per head, and the number of rows looked at."""

    statistics: tuple[str, ...]
    moments: Moments
    num_rows: int


def measure(
    call: AttentionCall,
    statistics: Sequence[str],
    *,
    padding: Tensor | None = None,
    rows: Tensor | None = None,
    heads: Sequence[int] | None = None,
    quantiles: bool = False,
) -> Measurement:
    """Take ``statistics`` of ``call``.

    Args:
        call: what the kernel saw.
        statistics: names from ``STATISTICS``.
        padding: bool (batch, len), True = padding, as the model's input says; rows of padding do not count.
        rows: (rows,) indices of query rows, or None for all.
        heads: head indices, or None for all.
        quantiles: also take quantiles.

    Raises:
        ArgumentError: a layout that statistics cannot take.
    """
    if call.query.ndim != 4:
        raise ArgumentError(f"query must be (batch, heads, len, head_dim), got the shape {tuple(call.query.shape)}.")
    call = call if heads is None else call.select_heads(heads)
    batch, _, q_len, _ = call.query.shape
    names = [name for name in statistics if name in ROW_STATISTICS]
    taken = row_statistics(
        call.query, call.key, statistics=names, lse=call.lse, rows=rows, route="auto", **call.masking
    )  # fmt: skip
    values = dict(taken.values)
    if "padding_mass" in statistics:
        values["padding_mass"] = _pick(_padding_mass(call, padding), rows)
    if "output_norm" in statistics:
        values["output_norm"] = torch.linalg.vector_norm(_pick(call.output, rows).float(), dim=-1)
    stacked = torch.stack([values[name] for name in statistics])
    counted = _real_rows(call, padding)
    num_all = int(counted.sum()) if counted.shape[0] == batch else int(counted.sum()) * batch
    moments = Moments.of(
        stacked, _pick(counted, rows, axis=2), taken.num_keys == 0, num_all=num_all, quantiles=quantiles
    )
    num_rows = batch * (q_len if rows is None else len(rows))
    return Measurement(statistics=tuple(statistics), moments=moments, num_rows=num_rows)


def _pick(tensor: Tensor, rows: Tensor | None, axis: int = 2) -> Tensor:
    return tensor if rows is None else tensor.index_select(axis, rows.to(tensor.device))


def _real_rows(call: AttentionCall, padding: Tensor | None) -> Tensor:
    """Return bool (batch or 1, 1, q_len), True = a real token asks."""
    batch, _, q_len, _ = call.query.shape
    if padding is not None and tuple(padding.shape) == (batch, q_len):
        return ~padding[:, None, :]
    mask = call.attn_mask
    if call.kind == "self" and mask is not None and mask.shape[2] == 1 and mask.shape[3] == q_len:
        return mask[:, :1, 0, :]
    return torch.ones(1, 1, q_len, dtype=torch.bool, device=call.query.device)


def _padding_mass(call: AttentionCall, padding: Tensor | None) -> Tensor:
    """Weight on keys of padding, (batch, heads, q_len): computed only where the kernel's mask lets it be above zero."""
    batch, num_heads, q_len, _ = call.query.shape
    nothing = torch.zeros(batch, num_heads, q_len, device=call.query.device)
    if padding is None or tuple(padding.shape) != (batch, call.key.shape[2]) or not padding.any():
        return nothing
    keys = padding[:, None, None, :]
    if call.attn_mask is not None and not (call.attn_mask & keys).any():
        return nothing
    if call.attn_bias is not None and not ((call.attn_bias > -torch.inf) & keys).any():
        return nothing
    return key_mass(call.query, call.key, keys=padding, **call.masking)
