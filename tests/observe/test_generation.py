"""Generating with a cache: the same tokens, and statistics of each step's own row of weights."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from regard.observe import Moments, View, taps, watch

NAMES = ["entropy", "max_weight", "first_mass", "distance"]
NEW = 6
PROMPT = 7
REAL = torch.arange(PROMPT) >= torch.tensor([[0], [2], [4]])  # padded on the left
GROUPED = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "gpt2": lambda impl: GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, **SPECIAL, attn_implementation=impl)
    ),
    "llama": lambda impl: LlamaForCausalLM(LlamaConfig(**GROUPED, attn_implementation=impl)),
    "mistral": lambda impl: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=4, attn_implementation=impl)),
    "t5": lambda impl: T5ForConditionalGeneration(
        T5Config(
            vocab_size=50,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            attn_implementation=impl,
        )
    ),
    "bart": lambda impl: BartForConditionalGeneration(
        BartConfig(
            vocab_size=50,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=32,
            **SPECIAL,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
            attn_implementation=impl,
        )
    ),
}
DECODERS = {
    "gpt2": "transformer.h.{}.attn",
    "llama": "model.layers.{}.self_attn",
    "mistral": "model.layers.{}.self_attn",
}
TWO_STACKS = {
    "t5": {
        "encoder_attentions": "encoder.block.{}.layer.0.SelfAttention",
        "decoder_attentions": "decoder.block.{}.layer.0.SelfAttention",
        "cross_attentions": "decoder.block.{}.layer.1.EncDecAttention",
    },
    "bart": {
        "encoder_attentions": "model.encoder.layers.{}.self_attn",
        "decoder_attentions": "model.decoder.layers.{}.self_attn",
        "cross_attentions": "model.decoder.layers.{}.encoder_attn",
    },
}


class BySteps:
    """Keeps the summary of every step and layer."""

    def __init__(self) -> None:
        self.means: dict[tuple[str, str], list[Tensor]] = {}
        self.counts: dict[tuple[str, str], list[int]] = {}

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        for index, name in enumerate(statistics):
            self.means.setdefault((layer, name), []).append(moments.mean[index])
            self.counts.setdefault((layer, name), []).append(int(moments.num_rows[index, 0]))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def made(family: str, impl: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = MODELS[family](impl)
    for parameter in model.parameters():
        parameter.data *= 4 if parameter.ndim > 1 else 1
    return model.eval()


def generated(model: PreTrainedModel, **options: Any) -> Any:
    ids = torch.randint(3, 50, (3, PROMPT), generator=torch.Generator().manual_seed(1))
    return model.generate(
        input_ids=ids,
        attention_mask=REAL.long(),
        **{"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, **options},
    )


def watched(model: PreTrainedModel, **options: Any) -> tuple[Tensor, View, BySteps]:
    steps = BySteps()
    with watch(model, NAMES, recorder=steps) as view:
        tokens = generated(model, **options)
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    return tokens, view, steps


def dense(model: PreTrainedModel) -> Any:
    """Generate with the eager twin in float64 and keep its maps."""
    twin = copy.deepcopy(model).double()
    twin.set_attn_implementation("eager")
    return generated(twin, return_dict_in_generate=True, output_attentions=True)


def dense_of_sequences(model: PreTrainedModel, tokens: Tensor) -> list[Tensor]:
    """Float64 maps (batch, heads, len, len) of each layer, one sequence at a time without its padding.

    Eager code in float64 makes NaN of rows that see no key, as those of padding on the left do.
    """
    twin = copy.deepcopy(model).double()
    twin.set_attn_implementation("eager")
    length = tokens.shape[1]
    maps = [torch.zeros(3, 4, length, length, dtype=torch.float64) for _ in range(2)]
    for number, (sequence, real) in enumerate(zip(tokens, REAL, strict=True)):
        padded = int((~real).sum())
        with torch.no_grad():
            found = twin(sequence[None, padded:], output_attentions=True).attentions
        for whole, part in zip(maps, found, strict=True):
            whole[number, :, padded:, padded:] = part[0]
    return maps


def expected_means(weights: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Mean over the real rows of maps (batch, heads, q_len, kv_len); the queries are the last positions."""
    places = torch.arange(weights.shape[-1], dtype=weights.dtype)
    queries = places[-weights.shape[-2] :, None]
    rows = {
        "entropy": torch.special.entr(weights).sum(-1),
        "max_weight": weights.amax(-1),
        "first_mass": weights[..., 0],
        "distance": (weights * (queries - places).abs()).sum(-1),
    }
    counted = real[:, None, :]
    return {name: torch.where(counted, row, 0).sum((0, 2)) / counted.sum() for name, row in rows.items()}


def assert_steps(steps: BySteps, layer: str, maps: list[Tensor], real: list[Tensor], names: list[str]) -> None:
    assert steps.counts[layer, "entropy"] == [int(rows.sum()) for rows in real]
    for number, (weights, rows) in enumerate(zip(maps, real, strict=True)):
        expected = expected_means(weights, rows)
        for name in names:
            torch.testing.assert_close(steps.means[layer, name][number], expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_decoder_generates_the_same_and_each_step_is_measured(family: str, impl: str) -> None:
    model = made(family, impl)
    tokens, view, steps = watched(model)
    assert torch.equal(tokens, generated(model))
    whole = dense_of_sequences(model, tokens)
    real = [REAL, *[torch.ones(3, 1, dtype=torch.bool)] * (NEW - 1)]
    # A sliding cache keeps the last keys, whose place in the sequence the kernel no longer sees.
    names = NAMES if family != "mistral" else ["entropy", "max_weight"]
    for number, entry in enumerate(view.coverage()):
        layer = DECODERS[family].format(number)
        assert (entry.layer, entry.calls, entry.reason) == (layer, NEW, None)
        assert dict(entry.kinds) == {"self": 1, "decode": NEW - 1}
        maps = [whole[number][:, :, :PROMPT, :PROMPT]]
        for place in range(PROMPT, PROMPT + NEW - 1):
            first = max(0, place - 3) if family == "mistral" else 0
            maps.append(whole[number][:, :, place : place + 1, first : place + 1])
        calls = [call for call in view.calls() if call["layer"] == layer]
        lengths = [(weights.shape[2], weights.shape[3]) for weights in maps]
        assert [(call["q_len"], call["kv_len"]) for call in calls] == lengths
        assert [call["heads"] for call in calls] == [4] * NEW
        assert [call["step"] for call in calls] == [*range(1, NEW + 1)]
        assert_steps(steps, layer, maps, real, names)


def test_heads_that_share_keys_are_unpacked_out_of_the_query_axis() -> None:
    """For one query ``transformers`` hands them over as (batch, kv_heads, group, head_dim)."""
    _, view, _ = watched(made("llama", "sdpa"))
    decoding = [call for call in view.calls() if call["q_len"] == 1]
    assert len(decoding) == 2 * (NEW - 1)
    assert {(call["heads"], call["kv_heads"], call["kind"]) for call in decoding} == {(4, 2, "decode")}


@pytest.mark.parametrize("length", [1, 2])
def test_a_prompt_as_long_as_a_group_is_not_taken_for_packed_heads(length: int) -> None:
    model = made("llama", "sdpa")
    with torch.no_grad(), watch(model, ["entropy"]) as view:
        model(torch.randint(3, 50, (3, length)))
    assert [(call["heads"], call["q_len"], call["kind"]) for call in view.calls()] == [(4, length, "self")] * 2
    assert {row["num_rows"] for row in view.table()} == {3 * length}


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("family", TWO_STACKS)
def test_two_stacks_generate_the_same_and_each_step_is_measured(family: str, impl: str) -> None:
    model = made(family, impl)
    tokens, view, steps = watched(model)
    assert torch.equal(tokens, generated(model))
    twin = dense(model)
    assert torch.equal(twin.sequences, tokens)
    coverage = {entry.layer: entry for entry in view.coverage()}
    one = torch.ones(3, 1, dtype=torch.bool)
    for number in range(2):
        layers = {maps: name.format(number) for maps, name in TWO_STACKS[family].items()}
        encoder, decoder, cross = (coverage.pop(layer) for layer in layers.values())
        assert (encoder.calls, dict(encoder.kinds)) == (1, {"self": 1})
        assert (decoder.calls, dict(decoder.kinds)) == (NEW, {"self": 1, "decode": NEW - 1})
        assert (cross.calls, dict(cross.kinds)) == (NEW, {"cross": NEW})
        square = [name for name in NAMES if name != "distance"]
        assert_steps(steps, encoder.layer, [twin.encoder_attentions[number]], [REAL], NAMES)
        assert_steps(steps, decoder.layer, [maps[number] for maps in twin.decoder_attentions], [one] * NEW, NAMES)
        assert_steps(steps, cross.layer, [maps[number] for maps in twin.cross_attentions], [one] * NEW, square)
    assert not coverage


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True}, {"cache_implementation": "static"}])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bart"])
def test_other_ways_to_generate_keep_their_tokens(family: str, options: dict[str, Any]) -> None:
    model = made(family, "sdpa")
    torch.manual_seed(5)
    plain = generated(model, **options)
    torch.manual_seed(5)
    tokens, view, _ = watched(model, **options)
    assert torch.equal(plain, tokens)
    assert all(entry.seen and entry.reason is None for entry in view.coverage())


def test_a_static_cache_has_the_entropy_of_a_growing_one() -> None:
    model = made("llama", "sdpa")
    _, growing, by_step = watched(model)
    _, static, same_by_step = watched(model, cache_implementation="static")
    assert {call["kv_len"] for call in growing.calls()} != {call["kv_len"] for call in static.calls()}
    for layer in growing.layers:
        for one, other in zip(by_step.means[layer, "entropy"], same_by_step.means[layer, "entropy"], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_padding_rows_of_a_continued_prompt_do_not_count() -> None:
    """A second forward over several tokens with a cache: the queries are the last of the positions."""
    model = made("llama", "sdpa")
    ids = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(2))
    real = torch.arange(9) < torch.tensor([[9], [8], [6]])
    with torch.no_grad(), watch(model, ["entropy"]) as view:
        before = model(ids[:, :5], attention_mask=real[:, :5].long(), use_cache=True)
        view.at(2)
        cache = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"  # before 5.24
        model(ids[:, 5:], attention_mask=real.long(), **{cache: before[cache]})
    assert [(call["q_len"], call["kv_len"], call["kind"]) for call in view.calls()] == [(5, 5, "self")] * 2 + [
        (4, 9, "decode")
    ] * 2
    assert {row["num_rows"] for row in view.table()} == {int(real.sum())}
    twin = copy.deepcopy(model).double()
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        whole = twin(ids, attention_mask=real.long(), output_attentions=True).attentions
    for number, weights in enumerate(whole):
        found = view[f"model.layers.{number}.self_attn"]["entropy"]
        torch.testing.assert_close(found, expected_means(weights, real)["entropy"], atol=1e-5, rtol=0)
