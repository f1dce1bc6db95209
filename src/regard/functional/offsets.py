"""Where each of several packed sequences begins, checked before any kernel reads by it."""

import torch
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.masks import check_window

__all__ = ["check_integers", "check_sequences", "checked_offsets"]


def check_integers(name: str, offsets: Tensor) -> None:
    """Raise ``DtypeError`` for offsets that are no integers."""
    if offsets.dtype.is_floating_point or offsets.dtype == torch.bool:
        raise DtypeError(f"{name} must be integers, got {offsets.dtype}; convert them with `.long()`.")


def checked_offsets(name: str, offsets: Tensor, length: int) -> Tensor:
    """Return offsets as int64 in the host's memory.

    Raises:
        ArgumentError: they do not rise from 0 to ``length``.
        DtypeError: they are no integers.
    """
    check_integers(name, offsets)
    bounds = offsets.to("cpu", torch.int64).contiguous()
    rises = bounds.ndim == 1 and len(bounds) > 0 and bool((bounds[1:] >= bounds[:-1]).all())
    if not rises or int(bounds[0]) != 0 or int(bounds[-1]) != length:
        raise ArgumentError(
            f"{name} must rise from 0 to the number of tokens, {length}, got {offsets.tolist()}; "
            "give the number of tokens before each sequence, and of all at the end."
        )
    return bounds


def check_sequences(bounds: Tensor, kv_bounds: Tensor, *, causal: bool, window: int | None) -> None:
    """Raise ``ArgumentError`` for offsets of queries and keys that do not belong together."""
    if len(bounds) != len(kv_bounds):
        raise ArgumentError(
            f"offsets and kv_offsets must be of as many sequences, got {len(bounds) - 1} and {len(kv_bounds) - 1}."
        )
    if causal and bool((bounds.diff() > kv_bounds.diff()).any()):
        raise ArgumentError("Causal attention needs at least as many keys as queries in each sequence, got fewer.")
    if window is not None:
        check_window(window)
