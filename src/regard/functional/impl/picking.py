"""Picking query rows out of tensors, the same rows in every sequence or other rows in each."""

import torch
from torch import Tensor

__all__ = ["pick_entries", "pick_rows"]


def pick_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return ``rows`` of (batch or 1, heads, len, width), (batch or 1, heads, rows, width).

    ``rows`` is int64 (rows,), or (batch, rows) where each sequence has its own.
    """
    if rows.ndim == 1:
        return tensor.index_select(2, rows)
    if tensor.shape[0] == 1:
        picked: Tensor = tensor[0].index_select(1, rows.flatten()).unflatten(1, rows.shape)
        return picked.movedim(1, 0)
    return tensor.movedim(2, 1)[_sequences(rows), rows].movedim(1, 2)


def pick_entries(tensor: Tensor, keys: Tensor) -> Tensor:
    """Return (batch or 1, heads, rows or 1, kv_len or 1) at one key per row, (batch or 1, heads, rows or 1).

    ``keys`` is int64 (rows,), or (batch, rows) where each sequence has its own.
    """
    if tensor.shape[3] == 1:
        return tensor[..., 0]
    keys = keys if keys.ndim == 2 else keys[None]
    batch = max(tensor.shape[0], keys.shape[0])
    shape = (batch, tensor.shape[1], keys.shape[1])
    return tensor.expand(*shape, tensor.shape[3]).gather(3, keys[:, None, :, None].expand(*shape, 1))[..., 0]


def _sequences(rows: Tensor) -> Tensor:
    return torch.arange(rows.shape[0], device=rows.device)[:, None]
