"""Model families as they are: no rule may raise a false alarm, and what could not be tested is known."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
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

from regard.conformance import check
from regard.records import CheckVerdict

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {"vocab_size": 50, **BLOCK, "num_key_value_heads": 2, **SPECIAL}
TWO_STACKS = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "decoder_start_token_id": 1,
    **SPECIAL,
}
T5 = {
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}

MODELS: dict[str, Callable[[str], nn.Module]] = {
    "bert": lambda impl: BertModel(BertConfig(vocab_size=50, **BLOCK, attn_implementation=impl), False),
    "bert-classifier": lambda impl: BertForSequenceClassification(
        BertConfig(vocab_size=50, **BLOCK, attn_implementation=impl)
    ),
    "roberta": lambda impl: RobertaModel(
        RobertaConfig(vocab_size=50, **BLOCK, max_position_embeddings=40, attn_implementation=impl), False
    ),
    "gpt2": lambda impl: GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, attn_implementation=impl, **SPECIAL)
    ),
    "llama": lambda impl: LlamaForCausalLM(LlamaConfig(**GROUPED, attn_implementation=impl)),
    "mistral": lambda impl: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=4, attn_implementation=impl)),
    "mistral-wide": lambda impl: MistralForCausalLM(MistralConfig(**GROUPED, attn_implementation=impl)),
    "qwen2": lambda impl: Qwen2ForCausalLM(Qwen2Config(**GROUPED, attn_implementation=impl)),
    "qwen3": lambda impl: Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=8, attn_implementation=impl)),
    "gemma2": lambda impl: Gemma2ForCausalLM(
        Gemma2Config(**GROUPED, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0, attn_implementation="eager")
    ),
    "t5": lambda impl: T5ForConditionalGeneration(T5Config(**T5, attn_implementation=impl)),
    "bart": lambda impl: BartForConditionalGeneration(
        BartConfig(**TWO_STACKS, max_position_embeddings=32, attn_implementation=impl)
    ),
    "whisper": lambda impl: WhisperModel(
        WhisperConfig(
            **TWO_STACKS, num_mel_bins=8, max_source_positions=12, max_target_positions=32, attn_implementation=impl
        )
    ),
    "vit": lambda impl: ViTModel(ViTConfig(**BLOCK, image_size=8, patch_size=2, attn_implementation=impl), False),
}
# Whisper's encoder takes a spectrum; its tokens cannot be changed one at a time.
UNTESTED = {"whisper": {"cross_lengths"}}


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("family", MODELS)
def test_a_correct_family_raises_no_alarm(family: str, impl: str) -> None:
    model = MODELS[family](impl)

    report = check(model)

    untested = {name for name, verdict in report.verdicts.items() if verdict is CheckVerdict.NOT_TESTED}
    assert report.failed == [], str(report)
    assert untested == UNTESTED.get(family, set()), str(report)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("family", MODELS)
def test_no_alarm_comes_with_other_weights_and_tokens(family: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = MODELS[family]("sdpa")
    for parameter in model.parameters():
        parameter.data *= 3 if parameter.ndim > 1 else 1  # heads that are further from uniform

    report = check(model, fast=True, seed=seed)

    assert report.failed == [], str(report)
