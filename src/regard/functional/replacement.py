"""PyTorch's CPU flash operator, computed by the native kernels: the same arguments, results and layouts.

It is how a model that calls ``scaled_dot_product_attention`` runs on the native kernels without being changed. Whoever
stands in for the operator asks here, and lets PyTorch compute what is answered with None.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from regard.functional.impl import native
from regard.functional.impl.native import Scoring, default_scale, native_available, native_obstacle
from regard.functional.masks import causal_mask

__all__ = ["flash_backward", "flash_forward", "native_available"]


def flash_forward(
    arguments: Mapping[str, Any], statistics: Sequence[str]
) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
    """Return output, log-sum-exp and statistics of a call, or None where the native kernels cannot take it.

    Args:
        arguments: of ``aten::_scaled_dot_product_flash_attention_for_cpu``, by name.
        statistics: names that ``regard_native.STATISTICS`` has.
    """
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if arguments.get("dropout_p") or native_obstacle(query, key, value) is not None:
        return None
    output, lse, taken = native.forward(query, key, value, _scoring(arguments), statistics)
    found = dict(zip(statistics, taken.unbind(0), strict=True))
    return _as_pytorch(output), _as_pytorch(lse[..., None])[..., 0], found


def flash_backward(arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the gradients of query, key and value, or None where the native kernels cannot take the call.

    Args:
        arguments: of ``aten::_scaled_dot_product_flash_attention_for_cpu_backward``, by name.
    """
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if arguments.get("dropout_p") or native_obstacle(query, key, value) is not None:
        return None
    return native.backward(
        query,
        key,
        value,
        _scoring(arguments),
        output=arguments["out"],
        lse=arguments["logsumexp"],
        grad_output=arguments["grad_out"],
        grad_lse=None,
        grads=(_empty(query), _empty(key), _empty(value)),
    )


def _scoring(arguments: Mapping[str, Any]) -> Scoring:
    """Translate: the operator's mask is a bias, and its causal corner is the top left."""
    query, bias, causal, mask = arguments["query"], arguments.get("attn_mask"), arguments.get("is_causal", False), None
    q_len, kv_len = query.shape[2], arguments["key"].shape[2]
    if causal and q_len != kv_len:
        longest = max(q_len, kv_len)
        mask, causal = causal_mask(longest, longest, query.device)[:q_len, :kv_len], False
    four = None if bias is None else bias[(None,) * (4 - bias.ndim)]
    scale = default_scale(query, arguments.get("scale"))
    return Scoring(scale=scale, attn_bias=four, attn_mask=None if mask is None else mask[None, None], causal=causal)


def _empty(tensor: Tensor) -> Tensor:
    """Return an empty tensor of this shape whose heads lie innermost, as the operator's results do."""
    batch, heads, length, width = tensor.shape
    return torch.empty((batch, length, heads, width), dtype=tensor.dtype).transpose(1, 2)


def _as_pytorch(tensor: Tensor) -> Tensor:
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)
