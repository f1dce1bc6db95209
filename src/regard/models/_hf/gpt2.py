"""Hugging Face's names for GPT-2, whose matrices lie the other way round and hold query, key and value in one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regard._errors import UnsupportedError
from regard.models._hf.reading import given, made, stop_ids
from regard.models.decoder_config import DecoderConfig

__all__ = ["IGNORED", "MODEL_TYPE", "canonical_name", "config_from_hf", "config_to_hf", "fits", "from_hf", "to_hf"]

MODEL_TYPE = "gpt2"

IGNORED = ("h.*.attn.bias", "h.*.attn.masked_bias")
"""Masks that old files carry among the weights."""

_CONFIG = {
    "vocab_size": ("vocab_size", 50_257),
    "embed_dim": ("n_embd", 768),
    "num_heads": ("n_head", 12),
    "num_layers": ("n_layer", 12),
    "max_len": ("n_positions", 1_024),
    "norm_eps": ("layer_norm_epsilon", 1e-5),
    "dropout_p": ("resid_pdrop", 0.1),
    "attention_dropout_p": ("attn_pdrop", 0.1),
    "bos_id": ("bos_token_id", 50_256),
    "pad_id": ("pad_token_id", None),
    "tied_embeddings": ("tie_word_embeddings", True),
}
"""Our field of ``DecoderConfig`` -> key of ``config.json``, and its value in a file without the key."""

_REQUIRED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
"""Key of ``config.json`` -> the value that it must have, or lack."""

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
_ACTIVATIONS_TO_HF = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}

_WHOLE = {
    "words.weight": "wte.weight",
    "positions.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
_IN_LAYER = {
    "attention_norm": "ln_1",
    "attention.output": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.hidden": "mlp.c_fc",
    "feed_forward.output": "mlp.c_proj",
}
_FUSED, _PARTS = "attn.c_attn", ("attention.query", "attention.key", "attention.value")


def canonical_name(key: str) -> str:
    """Return a file's ``key`` without what only models with a head put before it."""
    return key.removeprefix("transformer.")


def fits(config: DecoderConfig) -> bool:
    """Return whether ``config`` describes a GPT-2."""
    return (
        config.positions == "learned"
        and config.norm == "layer"
        and config.activation in _ACTIVATIONS_TO_HF
        and config.attention_bias
        and config.feed_forward_bias
        and config.kv_heads == config.num_heads
        and config.width_per_head * config.num_heads == config.embed_dim
    )


def config_from_hf(values: Mapping[str, Any], *, source: str) -> DecoderConfig:
    """Return the config that ``config.json`` of ``source`` describes.

    Raises:
        UnsupportedError: it describes something that our decoder does not have; it is named.
        RecordError: a key has an impossible value.
    """
    for key, needed in _REQUIRED.items():
        if values.get(key, needed) != needed:
            raise UnsupportedError(
                f"{source} must have {key} {needed!r}, got {values[key]!r}; regard has no such GPT-2."
            )
    activation = values.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise UnsupportedError(f"{source} must have an activation_function out of {known}, got {activation!r}.")
    rates = {values.get(key, 0.1) for key in ("resid_pdrop", "embd_pdrop")}
    if len(rates) > 1:
        raise UnsupportedError(f"{source} must have one rate as resid_pdrop and embd_pdrop, got {sorted(rates)}.")
    fields = given(values, _CONFIG)
    inner = values.get("n_inner")
    fields["feed_forward_dim"] = 4 * fields["embed_dim"] if inner is None else inner
    return made({**fields, "eos_ids": stop_ids(values, 50_256), "activation": _ACTIVATIONS[activation]}, source=source)


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """Return ``config.json`` for ``GPT2LMHeadModel``."""
    plain = {theirs: getattr(config, ours) for ours, (theirs, _) in _CONFIG.items()}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": MODEL_TYPE,
        **_REQUIRED,
        **plain,
        "embd_pdrop": config.dropout_p,
        "n_inner": config.feed_forward_dim,
        "activation_function": _ACTIVATIONS_TO_HF[config.activation],
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) > 1 else next(iter(config.eos_ids), None),
    }


def to_hf(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under Hugging Face's names, in its layout."""
    theirs = {}
    for name, tensor in weights.items():
        if name in _WHOLE:
            theirs[f"transformer.{_WHOLE[name]}"] = tensor
        elif name == "output.weight":
            theirs["lm_head.weight"] = tensor
        else:
            number, inner, leaf = _place(name)
            if inner == _PARTS[0]:
                parts = [weights[f"layers.{number}.{part}.{leaf}"] for part in _PARTS]
                theirs[f"transformer.h.{number}.{_FUSED}.{leaf}"] = _turned(torch.cat(parts), _FUSED)
            elif inner not in _PARTS:
                theirs[f"transformer.h.{number}.{_IN_LAYER[inner]}.{leaf}"] = _turned(tensor, inner)
    return theirs


def from_hf(theirs: Mapping[str, Tensor], names: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights ``names`` out of ``theirs``, whose keys are those of ``to_hf`` by ``canonical_name``."""
    ours = {}
    for name in names:
        if name in _WHOLE:
            ours[name] = theirs[_WHOLE[name]]
        elif name == "output.weight":
            ours[name] = theirs["lm_head.weight"]
        else:
            number, inner, leaf = _place(name)
            if inner in _PARTS:
                fused = _turned(theirs[f"h.{number}.{_FUSED}.{leaf}"], _FUSED)
                ours[name] = fused.chunk(3)[_PARTS.index(inner)].contiguous()
            else:
                ours[name] = _turned(theirs[f"h.{number}.{_IN_LAYER[inner]}.{leaf}"], inner)
    return ours


def _place(name: str) -> tuple[str, str, str]:
    """Return layer, module within it and leaf of our ``name``."""
    _, number, rest = name.split(".", 2)
    inner, leaf = rest.rsplit(".", 1)
    return number, inner, leaf


def _turned(tensor: Tensor, inner: str) -> Tensor:
    """Return a matrix of a linear layer in the other layout; anything else as it is."""
    return tensor.T.contiguous() if tensor.ndim == 2 and "norm" not in inner else tensor
