"""Checks of what a person hands to a model, and the one meaning of ``attention_mask``."""

import torch
from jaxtyping import Bool
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.masks import keep_from_attention_mask

__all__ = ["check_ids", "check_not_empty", "check_rows", "check_shape", "keep_mask", "padding_mask", "stands_right"]


def check_ids(ids: Tensor, *, name: str, size: int, what: str, max_len: int) -> None:
    """Refuse ids that an embedding of ``size`` rows does not have, and sequences longer than ``max_len``.

    The range is checked on a CPU only: elsewhere it would stop the device to look, and the embedding's own check on the
    device remains.

    Args:
        ids: whole numbers (batch, len).
        name: of the argument, for the message.
        size: number of rows of the embedding.
        what: what the rows are, for the message.
        max_len: longest sequence.

    Raises:
        DtypeError: not whole numbers.
        ArgumentError: another rank, an empty batch, a sequence too long, or an id outside [0, ``size``).
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise DtypeError(f"{name} must be int64 or int32 token numbers, got {ids.dtype}; convert them.")
    if ids.ndim != 2 or not ids.numel():
        raise ArgumentError(f"{name} must be (batch, len) with at least one token, got {tuple(ids.shape)}.")
    if ids.shape[1] > max_len:
        raise ArgumentError(f"{name} must hold at most {max_len} tokens a row, got {ids.shape[1]}; cut the sequences.")
    if not _readable(ids):
        return
    low, high = (int(bound) for bound in torch.aminmax(ids))
    if low < 0 or high >= size:
        raise ArgumentError(
            f"{name} must lie in [0, {size}), the {what} of this model; got {low if low < 0 else high}; "
            "use the tokenizer that belongs to the model."
        )


def check_rows(ids: Tensor, rows: int, *, name: str) -> None:
    """Refuse a side whose batch is not that of the other.

    Raises:
        ArgumentError: another number of rows than ``rows``.
    """
    if len(ids) != rows:
        raise ArgumentError(f"{name} must have one row for each of the {rows} of the source, got {len(ids)}.")


def check_shape(tensor: Tensor, shape: torch.Size, *, name: str) -> None:
    """Refuse a tensor that does not lie over the token ids.

    Raises:
        ArgumentError: another shape than ``shape``.
    """
    if tensor.shape != shape:
        raise ArgumentError(f"{name} must have the shape of input_ids {tuple(shape)}, got {tuple(tensor.shape)}.")


def keep_mask(
    attention_mask: Tensor | None, shape: torch.Size, *, name: str = "attention_mask"
) -> Bool[Tensor, "batch 1 1 len"] | None:
    """Return the mask with True = may attend that ``attention_mask`` means, or None where nothing is padded.

    On a CPU a mask without padding becomes None, since attention without a mask takes the faster kernel; compiled and
    on other devices the mask is kept as it is, because a look into it would break the graph or stop the device.

    Args:
        attention_mask: bool or 0/1 whole numbers (batch, len), 1 = real token; None for no padding.
        shape: of the token ids.
        name: of the argument, for the message.

    Raises:
        DtypeError: a float mask.
        ArgumentError: another shape than the ids, or (looked at on a CPU) numbers other than 0 and 1.
    """
    if attention_mask is None:
        return None
    check_shape(attention_mask, shape, name=name)
    keep = keep_from_attention_mask(attention_mask)
    if not _readable(attention_mask):
        return keep
    if attention_mask.dtype != torch.bool:
        low, high = (int(bound) for bound in torch.aminmax(attention_mask))
        if low < 0 or high > 1:
            raise ArgumentError(f"{name} must hold 0 and 1 only, got {low if low < 0 else high}.")
    return None if bool(keep.all()) else keep


def padding_mask(
    attention_mask: Tensor | None, shape: torch.Size, *, name: str = "attention_mask"
) -> Bool[Tensor, "batch len"] | None:
    """Return the mask with True = padding, as layers take it, or None where nothing is padded; see ``keep_mask``."""
    keep = keep_mask(attention_mask, shape, name=name)
    return None if keep is None else ~keep[:, 0, 0]


def stands_right(padding: Bool[Tensor, "batch len"] | None) -> bool:
    """Return whether all padding is known to stand behind the real tokens: False where it cannot be looked at."""
    if padding is None:
        return True
    return _readable(padding) and not bool((padding[:, :-1] & ~padding[:, 1:]).any())


def check_not_empty(real: Tensor) -> None:
    """Refuse, on a CPU, texts of padding alone.

    Raises:
        ArgumentError: a row of ``real`` (batch, len) is False throughout.
    """
    if _readable(real) and bool((empty := ~real.any(dim=1)).any()):
        row = int(empty.nonzero()[0])
        raise ArgumentError(f"Each text must hold a real token, row {row} of attention_mask has none; drop it.")


def _readable(tensor: Tensor) -> bool:
    """Whether values may be looked at without stopping a device or breaking a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
