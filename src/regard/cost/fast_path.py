"""The C++ fast path of ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer``: one operator with many parts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from regard.cost.attention_work import AttentionWork
from regard.cost.operation import Operation
from regard.cost.parts import Part

__all__ = ["FAST_PATHS", "fast_path"]

FAST_PATHS = frozenset({"_native_multi_head_attention", "_transformer_encoder_layer_fwd"})


def fast_path(arguments: Mapping[str, Any], whole: Operation) -> tuple[list[Operation], AttentionWork]:
    """Return what the operator did, part by part, and the attention in it.

    Its time is that of all parts together; it is shared out by their operations in products, since nothing is heard of
    what runs within.

    Args:
        arguments: by the names of the operator's schema.
        whole: the operator as one operation, with its time and numbers.
    """
    source = arguments["src"] if "src" in arguments else arguments["query"]
    heads = int(arguments.get("num_heads", arguments.get("num_head", 1)))
    work = _attention(source, int(arguments["embed_dim"]), heads, whole.module)
    tokens = work.streams // heads * work.q_len if not source.is_nested else _num_tokens(source)
    projected = 2 * tokens * (arguments["qkv_weight"].numel() + arguments["proj_weight"].numel())
    parts = [(Part.PROJECTIONS, projected, projected), (Part.CORE, *work.forward_flops)]
    if "ffn_weight_1" in arguments:
        fed = 2 * tokens * (arguments["ffn_weight_1"].numel() + arguments["ffn_weight_2"].numel())
        parts.append((Part.FEED_FORWARD, fed, fed))
    return list(_shared_out(whole, parts)), work


def _shared_out(whole: Operation, parts: list[tuple[Part, int, int]]) -> Iterator[Operation]:
    total = sum(flops for _, flops, _ in parts) or 1
    for part, flops, needed in parts:
        share = flops / total
        yield replace(
            whole,
            part=part,
            flops=flops,
            needed=needed,
            numbers=round(whole.numbers * share),
            moved_bytes=round(whole.moved_bytes * share),
            seconds=whole.seconds * share,
        )


def _attention(source: Tensor, embed_dim: int, heads: int, module: str) -> AttentionWork:
    if source.is_nested:  # padding was taken out, and is put back for the scores
        lengths = [int(size[0]) for size in source._nested_tensor_size()]
        batch, length = len(lengths), max(lengths, default=0)
        needed = heads * sum(one * one for one in lengths)
    else:
        batch, length = int(source.shape[0]), int(source.shape[1])
        needed = heads * batch * length * length
    return AttentionWork(
        kernel="fast path",
        module=module,
        streams=batch * heads,
        q_len=length,
        kv_len=length,
        head_dim=embed_dim // heads,
        value_dim=embed_dim // heads,
        computed=batch * heads * length * length,
        needed=needed,
        mask_is_read=source.is_nested,
        has_mask=False,
        kv_bytes=2 * batch * length * embed_dim * source.element_size(),
        element_bytes=source.element_size(),
    )


def _num_tokens(source: Tensor) -> int:
    return sum(int(size[0]) for size in source._nested_tensor_size())
