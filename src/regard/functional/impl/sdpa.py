"""PyTorch's ``scaled_dot_product_attention``, called so that its fused kernel stays and its dark corners stay dark."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regard._errors import UnsupportedError
from regard.functional.impl.torch_private import scaled_above_zero
from regard.functional.masks import as_bias, causal_mask, combine

__all__ = ["sdpa", "stays_fused"]


def stays_fused(query: Tensor, attn_bias: Tensor | None, softcap: float | None, dropout_p: float) -> bool:
    """Return whether PyTorch computes this call without the matrix of weights, as far as can be told beforehand.

    On a CPU, dropout of the weights and a bias that needs a gradient make PyTorch fall back to the plain mathematics.
    """
    if softcap is not None:
        return False
    trains_bias = attn_bias is not None and attn_bias.requires_grad and torch.is_grad_enabled()
    return query.device.type != "cpu" or not (dropout_p > 0 or trains_bias)


def sdpa(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
) -> Float[Tensor, "batch heads q_len value_dim"]:
    """Return attention by PyTorch's own function; arguments as ``regard.functional.attention``, masks of four axes.

    Where a mask or bias meets ``causal``, or the lengths differ, one mask of q_len × kv_len is built: kernels disagree
    on a mask together with ``is_causal``, and all of them align ``is_causal`` at the top left. ``chunked`` needs none.

    Raises:
        UnsupportedError: ``softcap``, which PyTorch's function does not have.
    """
    if softcap is not None:
        raise UnsupportedError(
            f'impl="sdpa" has no softcap, got softcap={softcap}; use impl="chunked", "reference" or "auto".'
        )
    if (
        query.numel() == 0 or key.numel() == 0
    ):  # the CPU kernel divides by the number of rows and takes the process down
        return query.new_zeros(*query.shape[:3], value.shape[3]) + 0.0 * (query.sum() + key.sum() + value.sum())
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    mask, empty, is_causal = _one_mask(query, key, attn_mask, attn_bias, causal)
    if is_causal:
        query, scale = scaled_above_zero(query, scale)
    value_dim = value.shape[-1]
    query, key, value = _equal_widths(query, key, value)
    output = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=is_causal,
        dropout_p=dropout_p,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )[..., :value_dim]
    return output if empty is None else output.masked_fill(empty, 0.0)


def _one_mask(
    query: Tensor, key: Tensor, attn_mask: Tensor | None, attn_bias: Tensor | None, causal: bool
) -> tuple[Tensor | None, Tensor | None, bool]:
    """Return the mask for the kernel, the rows (…, q_len, 1) whose output is to be zeroed, and ``is_causal``."""
    q_len, kv_len = query.shape[2], key.shape[2]
    if causal and (q_len == 1 or q_len == kv_len) and attn_mask is None and attn_bias is None:
        return None, None, q_len > 1
    keep = combine(attn_mask, causal_mask(q_len, kv_len, query.device)[None, None] if causal and q_len > 1 else None)
    if keep is None and attn_bias is None:
        return None, None, False
    empty = None
    if query.device.type != "cpu":
        # Only the CPU kernel is known to give 0 and a gradient of 0 for a row without keys. Elsewhere such a row may
        # see everything and its output is zeroed afterwards, which zeroes its gradient as well.
        keep, attn_bias, empty = _open_empty_rows(keep, attn_bias)
    if attn_bias is None:
        return keep, empty, False
    bias = attn_bias.to(query.dtype)
    return (bias if keep is None else bias + as_bias(keep, query.dtype)), empty, False


def _open_empty_rows(keep: Tensor | None, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor]:
    finite = None if bias is None else bias > -torch.inf
    allowed = combine(keep, finite)
    assert allowed is not None, "there is a mask or a bias"
    empty = ~allowed.any(-1, keepdim=True)
    opened = None if keep is None else keep | empty
    return opened, None if bias is None else bias.masked_fill(empty, 0.0), empty


def _equal_widths(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Widen the narrower of (query, key) and value with zeros: the CPU kernel is fused for equal widths only."""
    missing = query.shape[-1] - value.shape[-1]
    if missing == 0 or query.device.type != "cpu":
        return query, key, value
    if missing > 0:
        return query, key, F.pad(value, (0, missing))
    return F.pad(query, (0, -missing)), F.pad(key, (0, -missing)), value
