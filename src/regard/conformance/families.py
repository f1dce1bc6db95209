"""Model families of ``transformers``, built small from their configurations with random weights.

They need the ``hf`` extra. Bugs are seeded into them, and no rule may be broken on them as they are;
``scripts/false_alarms.py`` checks that over many seeds.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

__all__ = ["FAMILIES", "UNTESTED", "family", "implementations"]

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = {"vocab_size": 50, **_BLOCK, "num_key_value_heads": 2, **_SPECIAL}
_TWO_STACKS = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 1,
    **_SPECIAL,
}
_GPT2 = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, **_SPECIAL}
_GEMMA2 = {**_GROUPED, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 2.0}
_T5 = {
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 8.0, "original_max_position_embeddings": 32}
_LLAMA_YARN = {**_GROUPED, "max_position_embeddings": 256, "rope_parameters": _YARN}
_WHISPER = {**_TWO_STACKS, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 32}

FAMILIES: Mapping[str, tuple[Callable[[Any], nn.Module], type[Any], Mapping[str, Any]]] = {
    "bert": (lambda config: BertModel(config, False), BertConfig, {"vocab_size": 50, **_BLOCK}),
    "bert-classifier": (BertForSequenceClassification, BertConfig, {"vocab_size": 50, **_BLOCK}),
    "roberta": (
        lambda config: RobertaModel(config, False),
        RobertaConfig,
        {"vocab_size": 50, **_BLOCK, "max_position_embeddings": 40},
    ),
    "gpt2": (GPT2LMHeadModel, GPT2Config, _GPT2),
    "llama": (LlamaForCausalLM, LlamaConfig, _GROUPED),
    "llama-yarn": (LlamaForCausalLM, LlamaConfig, _LLAMA_YARN),
    "mistral": (MistralForCausalLM, MistralConfig, {**_GROUPED, "sliding_window": 4}),
    "mistral-wide": (MistralForCausalLM, MistralConfig, _GROUPED),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, _GROUPED),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {**_GROUPED, "head_dim": 8}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, _GEMMA2),
    "bloom": (
        BloomForCausalLM,
        BloomConfig,
        {"vocab_size": 50, "hidden_size": 32, "n_layer": 2, "n_head": 4, **_SPECIAL},
    ),
    "t5": (T5ForConditionalGeneration, T5Config, _T5),
    "bart": (BartForConditionalGeneration, BartConfig, {**_TWO_STACKS, "max_position_embeddings": 32}),
    "whisper": (WhisperModel, WhisperConfig, _WHISPER),
    "vit": (lambda config: ViTModel(config, False), ViTConfig, {**_BLOCK, "image_size": 8, "patch_size": 2}),
}
"""Name -> (how the model is made of a configuration, the class of the configuration, its sizes)."""

# Whisper's encoder takes a spectrum; its tokens cannot be changed one at a time.
UNTESTED: Mapping[str, frozenset[str]] = {"whisper": frozenset({"cross_lengths"})}
"""Name -> ids of the rules that cannot be tested on it, for a reason that the report gives."""


def family(name: str, seed: int = 0, impl: str = "sdpa", **sizes: Any) -> nn.Module:
    """Return a small model of a family with random weights.

    Args:
        name: a key of ``FAMILIES``.
        seed: of the weights.
        impl: attention implementation; where there is one alone, it is taken.
        sizes: what to change in the configuration.
    """
    build, config, given = FAMILIES[name]
    impl = impl if impl in implementations(name) else implementations(name)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(config(**{**given, **sizes}, attn_implementation=impl))


def implementations(name: str) -> tuple[str, ...]:
    """Return the attention implementations of a family: no fused kernel has a soft cap, and BLOOM takes none."""
    return ("eager",) if name in ("bloom", "gemma2") else ("sdpa", "eager")
