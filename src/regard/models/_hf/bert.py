"""Hugging Face's names for BERT."""

from collections.abc import Mapping
from typing import Any

from regard._errors import ArgumentError, RecordError, UnsupportedError
from regard.models.config import BertConfig

__all__ = ["canonical_name", "config_from_hf", "config_to_hf", "hf_name"]

_CONFIG = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_layers": "num_hidden_layers",
    "feed_forward_dim": "intermediate_size",
    "max_len": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
    "pad_id": "pad_token_id",
    "activation": "hidden_act",
    "dropout_p": "hidden_dropout_prob",
    "attention_dropout_p": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
}
"""Our field of ``BertConfig`` -> key of ``config.json``."""

_REQUIRED = (
    ("model_type", "bert", "bert"),
    ("position_embedding_type", "absolute", "absolute"),
    ("is_decoder", False, False),
    ("add_cross_attention", False, False),
)
"""Key of ``config.json``, the value that this architecture has, and the value of a file without the key."""

_MODULES = {
    "embeddings.words": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.token_types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "transform": "cls.predictions.transform.dense",
    "norm": "cls.predictions.transform.LayerNorm",
    "classifier": "regard.classifier",
}
_IN_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.hidden": "intermediate.dense",
    "feed_forward.output": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_BIAS_OF_DECODER = "cls.predictions.bias"


def hf_name(name: str) -> str:
    """Return Hugging Face's name of our parameter ``name``; the ``bert.`` that heads put before their encoder stays.

    Our classifier's linear layer becomes ``regard.classifier``, a name that no Hugging Face class has: theirs sits on a
    pooler that ours does not have, and must not pass for it.
    """
    encoder = name.removeprefix("bert.")
    if encoder != name:
        return f"bert.{hf_name(encoder)}"
    if name == "bias":
        return _BIAS_OF_DECODER
    module, _, leaf = name.rpartition(".")
    if module in _MODULES:
        return f"{_MODULES[module]}.{leaf}"
    encoder, layer, number, inner = module.split(".", 3)
    return f"{encoder}.{layer}.{number}.{_IN_LAYER[inner]}.{leaf}"


def canonical_name(key: str) -> str:
    """Return today's form of a checkpoint's ``key``: files converted from TensorFlow call norms gamma and beta."""
    for old, new in ((".LayerNorm.gamma", ".LayerNorm.weight"), (".LayerNorm.beta", ".LayerNorm.bias")):
        if key.endswith(old):
            return key.removesuffix(old) + new
    return key


def config_from_hf(values: Mapping[str, Any], *, source: str) -> BertConfig:
    """Return the config that ``config.json`` of ``source`` describes.

    Raises:
        UnsupportedError: it describes another architecture.
        RecordError: a key is missing or has an impossible value.
    """
    for key, needed, default in _REQUIRED:
        if values.get(key, default) != needed:
            raise UnsupportedError(f"{source} must have {key} {needed!r}, got {values[key]!r}; load a BERT encoder.")
    if values.get("hidden_act") not in ("gelu", "relu"):
        raise UnsupportedError(f"{source} must have hidden_act 'gelu' or 'relu', got {values.get('hidden_act')!r}.")
    missing = sorted(key for key in _CONFIG.values() if key not in values)
    if missing:
        raise RecordError(f"{source} must hold {', '.join(missing)}, got none; the file is not a BERT's config.json.")
    try:
        return BertConfig(**{ours: values[theirs] for ours, theirs in _CONFIG.items()})
    except (ArgumentError, TypeError) as error:
        raise RecordError(f"{source} does not describe a BERT: {error}") from error


def config_to_hf(config: BertConfig, *, architecture: str) -> dict[str, Any]:
    """Return ``config.json`` for a model of Hugging Face's class ``architecture``."""
    values = config.to_dict()
    plain = {theirs: values[ours] for ours, theirs in _CONFIG.items()}
    return {"architectures": [architecture], **{key: needed for key, needed, _ in _REQUIRED}, **plain}
