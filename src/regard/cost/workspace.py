"""Memory that a kernel uses for itself while it runs, or keeps to go back: no operator tells of it."""

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["kept_bytes", "staying_bytes", "workspace_bytes"]

_FLASH_CPU = "_scaled_dot_product_flash_attention_for_cpu"
_BLOCK = 1 << 21  # bytes of a block of scores of the chunked backend
_FLOAT = 4
_BLOCKS = {  # of the chunked backend: resident memory of fresh processes, where not all freed blocks are used again
    "regard chunked": 6,
    "regard chunked backward": 8,
    "regard native by blocks": 1,
    "regard native by blocks backward": 3,
}


def workspace_bytes(name: str, arguments: Mapping[str, Any]) -> int:
    """Return how many bytes the operator ``name`` allocates and gives back while it runs; 0 where that is not known.

    Args:
        name: without namespace and overload, or that of a backend of ours.
        arguments: by name.
    """
    if name.startswith(_FLASH_CPU):
        return _flash(arguments, name != _FLASH_CPU)
    if name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd"):
        return _fast_path(arguments)
    if name == "native_attention":
        return _native(arguments)
    if name == "native_attention_backward":
        return _native_backward(arguments)
    if name == "mkldnn_rnn_layer":
        return round((4 if arguments["train"] else 1.5) * _states(arguments))
    if name == "mkldnn_rnn_layer_backward":
        return round(7.0 * _states(arguments) + 2.7 * _inputs(arguments))
    return _BLOCKS.get(name, 0) * _BLOCK


def kept_bytes(name: str, arguments: Mapping[str, Any]) -> int:
    """Return how many bytes of memory the operator ``name`` fills and keeps for its backward pass, beside its results.

    oneDNN's recurrent layer keeps four gates and the cell of every step in a buffer of bytes, three times as large, of
    which the rest is never touched. Its shares of the states, here and above, are measured: resident memory of fresh
    processes over eleven sizes, the largest share off by a tenth.
    """
    return 5 * _states(arguments) if name == "mkldnn_rnn_layer" and arguments["train"] else 0


def staying_bytes(name: str) -> int:
    """Return how much of the workspace of ``name`` stays with the process when it is done, as measured.

    Products in blocks leave buffers behind, of the library that multiplies and in the heap, which serve the next ones.
    """
    return 4 * _BLOCK if name.startswith("regard chunked") else 0


def _states(arguments: Mapping[str, Any]) -> int:
    """Return the bytes of the states of all steps."""
    steps, batch, _ = arguments["input"].shape
    return int(steps * batch * arguments["hidden_size"]) * _FLOAT


def _inputs(arguments: Mapping[str, Any]) -> int:
    return int(arguments["input"].numel()) * _FLOAT


def _flash(arguments: Mapping[str, Any], backward: bool) -> int:
    q_len, width = int(arguments["query"].shape[-2]), int(arguments["query"].shape[-1])
    rows, keys = 256 if q_len >= 768 else 64 if q_len >= 192 else 32, min(512, int(arguments["key"].shape[-2]))
    return torch.get_num_threads() * _FLOAT * ((2 if backward else 1) * rows * keys + rows * width)


def _native(arguments: Mapping[str, Any]) -> int:
    """Count what each thread packs: the keys and values of one head, and a block of rows with its scores."""
    kv_len, width = int(arguments["key"].shape[2]), int(arguments["key"].shape[3] + arguments["value"].shape[3])
    rows = 64 if kv_len * width * _FLOAT <= 1 << 20 else 256
    units = int(arguments["query"].shape[0] * arguments["key"].shape[1])
    threads = torch.get_num_threads()
    packs = threads if units >= 2 * threads else 1
    return _FLOAT * (packs * kv_len * width + threads * rows * (256 + width))


def _native_backward(arguments: Mapping[str, Any]) -> int:
    """Count what each thread holds: the queries and gradients of one head in three orders, and those of its keys."""
    q_len, kv_len = int(arguments["query"].shape[2]), int(arguments["key"].shape[2])
    width, value_width = int(arguments["key"].shape[3]), int(arguments["value"].shape[3])
    of_queries = q_len * (3 * width + 2 * value_width + 4)
    return torch.get_num_threads() * _FLOAT * (of_queries + kv_len * (width + value_width))


def _fast_path(arguments: Mapping[str, Any]) -> int:
    """Count what lives within one call of PyTorch's C++ fast path at a time, by its source.

    That is query, key and value beside the product that they were split from, and, later, twice the hidden layer of the
    feed-forward network with the normed and attended vectors that wait for it.
    """
    source = arguments["src"] if "src" in arguments else arguments["query"]
    vectors = int(source.numel()) * int(source.element_size())
    attended = 6 * vectors
    if "ffn_weight_1" not in arguments:
        return attended
    hidden = vectors * int(arguments["ffn_weight_1"].shape[0]) // int(arguments["embed_dim"])
    return max(attended, 2 * vectors + 2 * hidden)
