"""Decoders in GGUF files, the format of llama.cpp: sizes out of the header, weights dequantised to float32."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regard._errors import ArgumentError, MissingDependencyError, RecordError, UnsupportedError
from regard.models.decoder import Decoder
from regard.models.decoder_config import DecoderConfig

__all__ = ["load_gguf"]

_CONFIG = {
    "num_layers": "llama.block_count",
    "max_len": "llama.context_length",
    "embed_dim": "llama.embedding_length",
    "feed_forward_dim": "llama.feed_forward_length",
    "num_heads": "llama.attention.head_count",
    "norm_eps": "llama.attention.layer_norm_rms_epsilon",
}
"""Our field of ``DecoderConfig`` -> key of the header; all must be there."""
_OPTIONAL = {
    "num_kv_heads": "llama.attention.head_count_kv",
    "head_dim": "llama.attention.key_length",
    "rotary_base": "llama.rope.freq_base",
    "bos_id": "tokenizer.ggml.bos_token_id",
    "pad_id": "tokenizer.ggml.padding_token_id",
}
_END = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
_UNDERSTOOD = {*_CONFIG.values(), *_OPTIONAL.values(), "llama.vocab_size", "llama.rope.dimension_count"}
_UNDERSTOOD |= {"llama.attention.value_length"}

_LONG = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges", "tokenizer.ggml.scores")
"""Of the tokenizer; each is as long as the vocabulary."""

_WHOLE = {"words.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "output.weight": "output.weight"}
_IN_LAYER = {
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.hidden": "ffn_up",
    "feed_forward.output": "ffn_down",
}


def load_gguf(path: Path | str) -> Decoder:
    """Load a decoder out of a GGUF file of the architecture ``llama``, in float32.

    Quantised weights become the numbers that they stand for, exactly. llama.cpp keeps the rows of query and key in
    another order, for rotary positions of neighbouring columns; they are put back.

    Args:
        path: of the ``.gguf`` file.

    Returns:
        The decoder, in training mode as every fresh module.

    Raises:
        MissingDependencyError: the library ``gguf`` is not installed.
        RecordError: the file is absent or damaged, or a weight is missing, unexpected or of another shape.
        UnsupportedError: another architecture, or one with parts that ``Decoder`` does not have; they are named.

    References:
        https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    path = Path(path)
    reader, dequantize = _opened(path)
    header = {name: field.contents() for name, field in reader.fields.items() if name not in _LONG}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    with torch.device("meta"):
        model = Decoder(_config(header, tensors, source=str(path)))
    names = {ours: _name(ours) for ours in model.state_dict()}
    _compare(path, set(tensors), set(names.values()))
    weights = {}
    for ours, tensor in model.state_dict().items():
        held = tensors[names[ours]]
        # Always a copy: the file's memory is mapped, and training would write into it.
        found = torch.from_numpy(np.array(dequantize(held.data, held.tensor_type), dtype=np.float32))
        weights[ours] = _checked(_put_back(ours, found, model.config), tensor.shape, names[ours], path)
    model.load_state_dict(weights, assign=True)
    return model


def _opened(path: Path) -> tuple[Any, Any]:
    """Return a reader of the file and the function that dequantises."""
    try:
        library = import_module("gguf")
    except ImportError as error:
        raise MissingDependencyError(
            "Reading GGUF files needs the library gguf, which is not installed; run `pip install 'regard[gguf]'`."
        ) from error
    try:
        return library.GGUFReader(path), library.dequantize
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise RecordError(f"A GGUF file is needed, got {path} ({error}); copy it again.") from error


def _config(header: Mapping[str, Any], tensors: Mapping[str, Any], *, source: str) -> DecoderConfig:
    if (kind := header.get("general.architecture")) != "llama":
        raise UnsupportedError(f"{source} must be of the architecture 'llama', got {kind!r}.")
    foreign = sorted(key for key in header if key.startswith("llama.") and key not in _UNDERSTOOD)
    if foreign:
        raise UnsupportedError(f"{source} must describe a plain Llama, got {', '.join(foreign)} as well.")
    missing = sorted(key for key in _CONFIG.values() if key not in header)
    missing += [] if "token_embd.weight" in tensors else ["token_embd.weight"]
    if missing:
        raise RecordError(f"{source} must hold {', '.join(missing)}, got none; the file is damaged.")
    values = {ours: header[theirs] for ours, theirs in _CONFIG.items()}
    values |= {ours: header[theirs] for ours, theirs in _OPTIONAL.items() if theirs in header}
    try:
        config = DecoderConfig(
            vocab_size=int(tensors["token_embd.weight"].shape[1]),
            positions="rotary",
            norm="rms",
            activation="swiglu",
            attention_bias=False,
            feed_forward_bias=False,
            tied_embeddings="output.weight" not in tensors,
            eos_ids=tuple(dict.fromkeys(header[key] for key in _END if key in header)),
            **values,
        )
    except (ArgumentError, TypeError) as error:
        raise RecordError(f"{source} does not describe a decoder: {error}") from error
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if header.get(key, config.width_per_head) != config.width_per_head:
            raise UnsupportedError(f"{source} must have {key} {config.width_per_head}, got {header[key]}.")
    return config


def _name(ours: str) -> str:
    if ours in _WHOLE:
        return _WHOLE[ours]
    _, number, rest = ours.split(".", 2)
    inner, leaf = rest.rsplit(".", 1)
    return f"blk.{number}.{_IN_LAYER[inner]}.{leaf}"


def _put_back(name: str, weight: Tensor, config: DecoderConfig) -> Tensor:
    """Return a query or key matrix with its rows in the order in which c is paired with c + head_dim / 2."""
    heads = {"query": config.num_heads, "key": config.kv_heads}.get(name.split(".")[-2])
    if heads is None or weight.shape[0] != heads * config.width_per_head:
        return weight
    rows: Tensor = weight.unflatten(0, (heads, -1, 2)).transpose(1, 2)
    return rows.flatten(0, 2)


def _checked(weight: Tensor, shape: torch.Size, name: str, path: Path) -> Tensor:
    if weight.shape != shape:
        raise RecordError(f"{name} in {path} must have the header's shape {tuple(shape)}, got {tuple(weight.shape)}.")
    return weight


def _compare(path: Path, present: set[str], needed: set[str]) -> None:
    for names, what in ((needed - present, "misses"), (present - needed, "holds the unexpected")):
        if names:
            few = ", ".join(sorted(names)[:5])
            raise RecordError(f"{path} must hold the weights of a plain Llama, but it {what} {few}.")
