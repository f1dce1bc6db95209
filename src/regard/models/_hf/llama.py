"""Hugging Face's names for Llama."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from regard._errors import RecordError, UnsupportedError
from regard.models._hf.reading import given, made, stop_ids
from regard.models.decoder_config import DecoderConfig

__all__ = ["IGNORED", "MODEL_TYPE", "canonical_name", "config_from_hf", "config_to_hf", "fits", "from_hf", "to_hf"]

MODEL_TYPE = "llama"

IGNORED = ("layers.*.self_attn.rotary_emb.inv_freq",)
"""Frequencies that old files carry among the weights."""

_CONFIG = {
    "vocab_size": ("vocab_size", 32_000),
    "embed_dim": ("hidden_size", 4_096),
    "num_heads": ("num_attention_heads", 32),
    "num_kv_heads": ("num_key_value_heads", None),
    "head_dim": ("head_dim", None),
    "num_layers": ("num_hidden_layers", 32),
    "feed_forward_dim": ("intermediate_size", 11_008),
    "max_len": ("max_position_embeddings", 2_048),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "attention_dropout_p": ("attention_dropout", 0.0),
    "bos_id": ("bos_token_id", 1),
    "pad_id": ("pad_token_id", None),
    "attention_bias": ("attention_bias", False),
    "feed_forward_bias": ("mlp_bias", False),
    "tied_embeddings": ("tie_word_embeddings", False),
}
"""Our field of ``DecoderConfig`` -> key of ``config.json``, and its value in a file without the key."""

_FIXED = {"positions": "rotary", "norm": "rms", "activation": "swiglu", "dropout_p": 0.0}
_REFUSED = ("rope_scaling", "quantization_config", "sliding_window")
"""Keys of ``config.json`` that change what is computed and that our decoder does not have."""
_BASE = 10_000.0

_WHOLE = {"words.weight": "embed_tokens.weight", "norm.weight": "norm.weight"}
_IN_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.hidden": "mlp.up_proj",
    "feed_forward.output": "mlp.down_proj",
}


def canonical_name(key: str) -> str:
    """Return a file's ``key`` without what only models with a head put before it."""
    return key.removeprefix("model.")


def fits(config: DecoderConfig) -> bool:
    """Return whether ``config`` describes a Llama."""
    return all(getattr(config, name) == value for name, value in _FIXED.items())


def config_from_hf(values: Mapping[str, Any], *, source: str) -> DecoderConfig:
    """Return the config that ``config.json`` of ``source`` describes.

    Raises:
        UnsupportedError: it describes something that our decoder does not have; it is named.
        RecordError: a key has an impossible value.
    """
    for key in _REFUSED:
        if values.get(key) is not None:
            raise UnsupportedError(f"{source} must have no {key}, got {values[key]!r}; regard's decoder has none.")
    if (activation := values.get("hidden_act", "silu")) != "silu":
        raise UnsupportedError(f"{source} must have hidden_act 'silu', got {activation!r}.")
    fields = {**_FIXED, **given(values, _CONFIG), "rotary_base": _rotary_base(values, source)}
    return made({**fields, "eos_ids": stop_ids(values, 2)}, source=source)


def config_to_hf(config: DecoderConfig) -> dict[str, Any]:
    """Return ``config.json`` for ``LlamaForCausalLM``."""
    plain = {theirs: getattr(config, ours) for ours, (theirs, _) in _CONFIG.items()}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": MODEL_TYPE,
        **plain,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.width_per_head,
        "hidden_act": "silu",
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "rope_theta": config.rotary_base,  # where releases before 5 look
        "eos_token_id": list(config.eos_ids) if len(config.eos_ids) > 1 else next(iter(config.eos_ids), None),
    }


def to_hf(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our weights under Hugging Face's names."""
    return {_hf_name(name): tensor for name, tensor in weights.items()}


def from_hf(theirs: Mapping[str, Tensor], names: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights ``names`` out of ``theirs``, whose keys are those of ``to_hf`` by ``canonical_name``."""
    return {name: theirs[canonical_name(_hf_name(name))] for name in names}


def _hf_name(name: str) -> str:
    if name in _WHOLE:
        return f"model.{_WHOLE[name]}"
    if name == "output.weight":
        return "lm_head.weight"
    _, number, rest = name.split(".", 2)
    inner, leaf = rest.rsplit(".", 1)
    return f"model.layers.{number}.{_IN_LAYER[inner]}.{leaf}"


def _rotary_base(values: Mapping[str, Any], source: str) -> float:
    """Return the base of the rotary positions, out of the place that today's releases or those before 5 have."""
    told = values.get("rope_parameters")
    if told is None:
        told = {"rope_theta": values.get("rope_theta", _BASE)}
    if not isinstance(told, Mapping):
        raise RecordError(f"{source} must hold an object as rope_parameters, got {told!r}.")
    for key, needed in (("rope_type", "default"), ("partial_rotary_factor", 1.0)):
        found = told.get(key, values.get(key))
        if found not in (None, needed):
            raise UnsupportedError(
                f"{source} must have {key} {needed!r}, got {found!r}; regard's decoder has no other."
            )
    unknown = sorted(set(told) - {"rope_type", "rope_theta", "partial_rotary_factor"})
    if unknown:
        raise UnsupportedError(f"{source} must have plain rotary positions, got {', '.join(unknown)} among them.")
    return float(told.get("rope_theta", values.get("rope_theta", _BASE)))
