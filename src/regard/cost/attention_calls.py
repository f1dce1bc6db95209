"""From the arguments of an operator to the work of an attention call."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from regard.cost.attention_work import (
    AttentionWork,
    Reach,
    native_backward_pairs,
    native_pairs,
    open_pairs,
    torch_cpu_pairs,
)
from regard.cost.imaginary import is_imaginary, unheard

__all__ = ["EAGER", "FUSED", "FusedCall", "fused_call", "product_work", "work_by_blocks"]

EAGER = "products and softmax"
"""Name of the kernel where attention is not fused."""

_FLASH_CPU = "_scaled_dot_product_flash_attention_for_cpu"
_NATIVE = "native_attention"
FUSED = frozenset(
    {
        _FLASH_CPU,
        _NATIVE,
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    }
)
"""Operators that are a whole call of attention; each has a ``_backward``."""

_NEAR_BYTES = 1 << 20  # of keys and values, up to which the native kernel takes fewer rows at a time


@dataclass(frozen=True, kw_only=True)
class FusedCall:
    """A call of a fused kernel: its tensors, its work, and whether it is the backward pass."""

    tensors: tuple[Tensor, Tensor, Tensor]
    work: AttentionWork
    is_backward: bool


def fused_call(name: str, arguments: Mapping[str, Any], module: str) -> FusedCall | None:
    """Return the call that an operator is, or None where it is no attention.

    Args:
        name: of the operator, without namespace and overload.
        arguments: by the names of its schema.
        module: that is running.
    """
    forward = name.removesuffix("_backward")
    if forward not in FUSED:
        return None
    query, key, value = (arguments[part] for part in ("query", "key", "value"))
    is_backward = forward != name
    if forward == _NATIVE:
        computed, needed = _native(arguments, is_backward)
    else:
        computed, needed = _torch(forward, arguments)
    has_mask = any(arguments.get(name) is not None for name in ("attn_mask", "attn_bias"))
    work = _work(forward.lstrip("_"), module, (query, key, value), computed, needed, has_mask)
    return FusedCall(tensors=(query, key, value), work=work, is_backward=is_backward)


def work_by_blocks(kernel: str, arguments: Mapping[str, Any], module: str) -> AttentionWork:
    """Return the work of a call of a backend of ours that computes block by block, from what it tells of itself."""
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    if "computed" in arguments:  # a pattern, which has counted its pairs
        return _work(kernel, module, (query, key, value), arguments["computed"], arguments["needed"], True)
    blocks = arguments["blocks"]
    reach = Reach(query.shape[2], key.shape[2], blocks.causal, blocks.window, key.shape[2] - query.shape[2])
    with unheard():
        needed = open_pairs((blocks.mask, blocks.bias), _pairs(query, key), reach)
    has_mask = blocks.mask is not None or blocks.bias is not None
    return _work(kernel, module, (query, key, value), blocks.num_pairs, needed, has_mask)


def product_work(left: Tensor, right: Tensor, module: str) -> AttentionWork:
    """Return the work of a call whose scores are ``left`` (…, q_len, width) times ``right`` (…, width, kv_len)."""
    streams, q_len, width = int(left.shape[:-2].numel()), int(left.shape[-2]), int(left.shape[-1])
    kv_len, pairs = int(right.shape[-1]), streams * q_len * int(right.shape[-1])
    return AttentionWork(
        kernel=EAGER,
        module=module,
        streams=streams,
        q_len=q_len,
        kv_len=kv_len,
        head_dim=width,
        value_dim=width,
        computed=pairs,
        needed=pairs,
        mask_is_read=False,
        has_mask=False,
        kv_bytes=2 * streams * kv_len * width * left.element_size(),
        element_bytes=left.element_size(),
    )


def _torch(name: str, arguments: Mapping[str, Any]) -> tuple[int, int | None]:
    query, key = arguments["query"], arguments["key"]
    q_len, kv_len, causal = int(query.shape[-2]), int(key.shape[-2]), bool(arguments.get("is_causal"))
    streams = int(query.shape[:-2].numel())
    reach = Reach(q_len, kv_len, causal)  # PyTorch's causal corner is the top left
    mask = arguments.get("attn_mask", arguments.get("attn_bias"))
    with unheard():
        needed = open_pairs((mask,), streams * q_len * kv_len, reach)
    if name == _FLASH_CPU:
        return streams * torch_cpu_pairs(q_len, kv_len, causal), needed
    return streams * reach.needed, needed


def _native(arguments: Mapping[str, Any], is_backward: bool) -> tuple[int, int | None]:
    query, key = arguments["query"], arguments["key"]
    batch, heads, kv_heads = int(query.shape[0]), int(query.shape[1]), int(key.shape[1])
    masks = arguments.get("attn_mask"), arguments.get("attn_bias")
    computed, needed = 0, 0
    for reach in _reaches(arguments, int(query.shape[2]), int(key.shape[2])):
        width = int(key.shape[3] + arguments["value"].shape[3]) * key.element_size()
        near = reach.kv_len * width <= _NEAR_BYTES
        if is_backward:
            computed += batch * heads * native_backward_pairs(reach)
        else:
            computed += batch * kv_heads * native_pairs(reach, heads // kv_heads, near)
        with unheard():
            some = open_pairs(masks, batch * heads * reach.q_len * reach.kv_len, reach)
        if some is None:
            return computed, None
        needed += some
    return computed, needed


def _reaches(arguments: Mapping[str, Any], q_len: int, kv_len: int) -> list[Reach]:
    """Return which keys the queries of each packed sequence see; one for a usual batch."""
    causal, window = bool(arguments["causal"]), arguments.get("window")
    offsets = arguments.get("q_offsets"), arguments.get("kv_offsets")
    if offsets[0] is None or offsets[1] is None or is_imaginary(offsets[0]):
        return [Reach(q_len, kv_len, causal, window, kv_len - q_len)]
    sides = [[end - first for first, end in pairwise(side.tolist())] for side in offsets if side is not None]
    return [Reach(rows, keys, causal, window, keys - rows) for rows, keys in zip(*sides, strict=True)]


def _pairs(query: Tensor, key: Tensor) -> int:
    return int(query.shape[:-1].numel()) * int(key.shape[-2])


def _work(
    kernel: str,
    module: str,
    tensors: tuple[Tensor, Tensor, Tensor],
    computed: int,
    needed: int | None,
    has_mask: bool,
) -> AttentionWork:
    query, key, value = tensors
    return AttentionWork(
        kernel=kernel,
        module=module,
        streams=int(query.shape[:-2].numel()),
        q_len=int(query.shape[-2]),
        kv_len=int(key.shape[-2]),
        head_dim=int(query.shape[-1]),
        value_dim=int(value.shape[-1]),
        computed=computed,
        needed=computed if needed is None else min(needed, computed),
        mask_is_read=needed is not None,
        has_mask=has_mask,
        kv_bytes=key.numel() * key.element_size() + value.numel() * value.element_size(),
        element_bytes=query.element_size(),
    )
