"""The masks that a layer takes, in one sense."""

import torch
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.masks import combine, keep_from_padding

__all__ = ["keep_mask", "real_tokens"]


def keep_mask(attn_mask: Tensor | None, key_padding_mask: Tensor | None, context: Tensor) -> Tensor | None:
    """Return one mask with True = may attend, or None where nothing is restricted.

    Args:
        attn_mask: bool, True = may attend, broadcasts to (batch, heads, q_len, kv_len).
        key_padding_mask: bool (batch, kv_len), True = padding.
        context: what the keys are made of, (batch, kv_len, width).

    Raises:
        ArgumentError: a padding mask of another shape than the context's.
        DtypeError: a mask that is not boolean.
    """
    if key_padding_mask is None:
        return attn_mask
    _check_padding(key_padding_mask, context)
    return combine(attn_mask, keep_from_padding(key_padding_mask))


def real_tokens(key_padding_mask: Tensor, x: Tensor) -> Tensor:
    """Return the other sense of a padding mask over ``x`` (batch, len, width): bool (batch, len), True = real token.

    Raises:
        ArgumentError: another shape than the tokens of ``x``.
        DtypeError: a mask that is not boolean.
    """
    _check_padding(key_padding_mask, x)
    return ~key_padding_mask


def _check_padding(key_padding_mask: Tensor, context: Tensor) -> None:
    needed, got = tuple(context.shape[:2]), tuple(key_padding_mask.shape)
    if needed != got:
        raise ArgumentError(f"key_padding_mask must have the shape (batch, kv_len) = {needed}, got {got}.")
    if key_padding_mask.dtype != torch.bool:
        raise DtypeError(f"key_padding_mask must be boolean with True = padding, got {key_padding_mask.dtype}.")
