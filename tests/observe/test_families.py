"""Model families of ``transformers``, as they are: same bits, every call named, statistics of their eager maps."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
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
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

from regard.observe import View, taps, watch

ROW_NAMES = ["entropy", "normalized_entropy", "collision", "max_weight", "first_mass"]
SQUARE_NAMES = ["self_mass", "previous_mass", "distance"]
GRADIENTS = ["qk_gradient", "vo_gradient", "gradient_ratio", "head_importance"]
FUSED = "_scaled_dot_product_flash_attention_for_cpu"
PADDED = (torch.arange(11) < torch.tensor([[11], [7], [3]])).long()
# Every row of a window of 4 still sees a real key: eager code in float64 makes NaN of rows that see none.
BARELY_PADDED = (torch.arange(11) < torch.tensor([[11], [9], [8]])).long()
TARGET_PADDED = (torch.arange(6) < torch.tensor([[6], [4], [2]])).long()
BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {"vocab_size": 50, **BLOCK, "num_key_value_heads": 2}
TWO_STACKS = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}

MODELS: dict[str, Callable[[str], nn.Module]] = {
    "bert": lambda impl: BertModel(BertConfig(vocab_size=50, **BLOCK, attn_implementation=impl), False),
    "gpt2": lambda impl: GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, attn_implementation=impl)
    ),
    "llama": lambda impl: LlamaForCausalLM(LlamaConfig(**GROUPED, attn_implementation=impl)),
    "mistral": lambda impl: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=4, attn_implementation=impl)),
    "gemma2": lambda impl: Gemma2ForCausalLM(
        Gemma2Config(**GROUPED, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0, attn_implementation=impl)
    ),
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
        BartConfig(**TWO_STACKS, max_position_embeddings=32, attn_implementation=impl)
    ),
    "vit": lambda impl: ViTModel(ViTConfig(**BLOCK, image_size=8, patch_size=2, attn_implementation=impl), False),
    "whisper": lambda impl: WhisperModel(
        WhisperConfig(
            **TWO_STACKS,
            num_mel_bins=8,
            max_source_positions=12,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            attn_implementation=impl,
        )
    ),
}
# Layer -> the maps that ``output_attentions`` gives, and the projection that takes the heads' output.
LAYERS = {
    "bert": {"encoder.layer.{}.attention.self": ("attentions", "encoder.layer.{}.attention.output.dense")},
    "gpt2": {"transformer.h.{}.attn": ("attentions", "transformer.h.{}.attn.c_proj")},
    **{
        name: {"model.layers.{}.self_attn": ("attentions", "model.layers.{}.self_attn.o_proj")}
        for name in ("llama", "mistral", "gemma2")
    },
    "t5": {
        "encoder.block.{}.layer.0.SelfAttention": ("encoder_attentions", "encoder.block.{}.layer.0.SelfAttention.o"),
        "decoder.block.{}.layer.0.SelfAttention": ("decoder_attentions", "decoder.block.{}.layer.0.SelfAttention.o"),
        "decoder.block.{}.layer.1.EncDecAttention": ("cross_attentions", "decoder.block.{}.layer.1.EncDecAttention.o"),
    },
    "vit": {"layers.{}.attention": ("attentions", "layers.{}.attention.o_proj")},
    **{
        name: {
            f"{prefix}encoder.layers.{{}}.self_attn": (
                "encoder_attentions",
                f"{prefix}encoder.layers.{{}}.self_attn.out_proj",
            ),
            f"{prefix}decoder.layers.{{}}.self_attn": (
                "decoder_attentions",
                f"{prefix}decoder.layers.{{}}.self_attn.out_proj",
            ),
            f"{prefix}decoder.layers.{{}}.encoder_attn": (
                "cross_attentions",
                f"{prefix}decoder.layers.{{}}.encoder_attn.out_proj",
            ),
        }
        for name, prefix in (("bart", "model."), ("whisper", ""))
    },
}
# What restricts the scores of self-attention (of the encoder, of the decoder) and of cross-attention under SDPA.
MASKS = {
    "bert": {"attentions": "mask"},
    "gpt2": {"attentions": "mask"},
    "llama": {"attentions": "mask"},
    "mistral": {"attentions": "mask"},
    "t5": {"encoder_attentions": "bias", "decoder_attentions": "bias", "cross_attentions": "mask"},
    "bart": {"encoder_attentions": "mask", "decoder_attentions": "mask", "cross_attentions": "mask"},
    "vit": {"attentions": "none"},
    "whisper": {"encoder_attentions": "none", "decoder_attentions": "causal", "cross_attentions": "none"},
}
CASES = [(family, impl) for family in MODELS for impl in ("sdpa", "eager") if (family, impl) != ("gemma2", "sdpa")]


def made(family: str, impl: str, scale: float = 4.0) -> nn.Module:
    """A small model with weights larger than the initialisation, so that heads differ from uniform."""
    torch.manual_seed(0)
    model = MODELS[family](impl)
    for parameter in model.parameters():
        parameter.data *= scale if parameter.ndim > 1 else 1
    return model.eval()


def inputs_of(family: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 50, (3, 11), generator=generator)
    if family == "vit":
        return {"pixel_values": torch.randn(3, 3, 8, 8, generator=generator)}
    if family == "whisper":
        return {"input_features": torch.randn(3, 8, 24, generator=generator), "decoder_input_ids": ids[:, :6]}
    if family in ("t5", "bart"):
        target = {"decoder_input_ids": ids[:, 5:], "decoder_attention_mask": TARGET_PADDED}
        return {"input_ids": ids, "attention_mask": PADDED, **target}
    return {"input_ids": ids, "attention_mask": BARELY_PADDED if family in ("mistral", "gemma2") else PADDED}


def real_rows(maps: str, inputs: dict[str, Tensor], weights: Tensor) -> Tensor:
    """Bool (batch, 1, q_len), True = a real token asks."""
    name = "decoder_attention_mask" if maps in ("decoder_attentions", "cross_attentions") else "attention_mask"
    mask = inputs.get(name, torch.ones(weights.shape[0], weights.shape[2]))
    return mask.bool()[:, None, :]


def expected_rows(weights: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Statistics of dense weights, each (batch, heads, q_len), by their definitions."""
    entropy = torch.special.entr(weights).sum(-1)
    num_keys = (weights > 0).sum(-1).to(weights.dtype)
    places = torch.arange(weights.shape[-1], dtype=weights.dtype)
    queries = places[-weights.shape[-2] :]
    rows = {
        "entropy": entropy,
        "normalized_entropy": torch.where(num_keys > 1, entropy / num_keys.log(), torch.nan),
        "collision": weights.square().sum(-1),
        "max_weight": weights.amax(-1),
        "first_mass": weights[..., 0],
        "distance": (weights * (queries[:, None] - places).abs()).sum(-1),
    }
    if weights.shape[-1] == weights.shape[-2]:
        rows["self_mass"] = weights.diagonal(dim1=-2, dim2=-1)
        previous = weights.diagonal(offset=-1, dim1=-2, dim2=-1)
        rows["previous_mass"] = nn.functional.pad(previous, (1, 0), value=torch.nan)
    return {name: rows[name] for name in names}


def counted_mean(rows: Tensor, real: Tensor) -> Tensor:
    counted = real & ~rows.isnan()
    return (rows.nan_to_num() * counted).sum((0, 2)) / counted.sum((0, 2))


def dense(
    model: nn.Module, family: str, inputs: dict[str, Tensor], dtype: torch.dtype
) -> tuple[dict[str, tuple[str, Tensor]], dict[str, Tensor]]:
    """Return layer -> (kind of maps, maps) and layer -> heads' output norms of the eager twin in ``dtype``."""
    twin = copy.deepcopy(model).to(dtype)
    twin.set_attn_implementation("eager")
    modules, norms = dict(twin.named_modules()), {}
    names = {}
    for pattern, (maps, projection) in LAYERS[family].items():
        for number in range(2):
            layer = pattern.format(number)
            names[layer] = (maps, number)

            def note(_: nn.Module, args: tuple[Tensor, ...], layer: str = layer) -> None:
                norms[layer] = args[0].unflatten(-1, (4, -1)).norm(dim=-1).transpose(1, 2)

            modules[projection.format(number)].register_forward_pre_hook(note)
    typed = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in inputs.items()}
    with torch.no_grad():
        result = twin(**typed, output_attentions=True)
    return {layer: (maps, getattr(result, maps)[number]) for layer, (maps, number) in names.items()}, norms


def tensors_in(result: Any) -> Iterator[Tensor]:
    for value in result.values() if hasattr(result, "values") else result:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)


def same(one: Any, other: Any) -> bool:
    pairs = list(zip(tensors_in(one), tensors_in(other), strict=True))
    return len(pairs) > 0 and all(torch.equal(a, b) for a, b in pairs)


def assert_clean(model: nn.Module) -> None:
    """Nothing of a watch is left on the model or in PyTorch."""
    for module in model.modules():
        for hooks in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        ):
            assert not hooks
        assert "forward" not in vars(module)
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None
    assert not torch.overrides._get_current_function_mode_stack()


@pytest.mark.parametrize(("family", "impl"), CASES)
def test_every_call_is_seen_named_and_equal_to_the_dense_maps(family: str, impl: str) -> None:
    model, inputs = made(family, impl), inputs_of(family)
    with torch.no_grad():
        plain = model(**inputs)
        with watch(model, [*ROW_NAMES, *SQUARE_NAMES, "output_norm"]) as view:
            watched = model(**inputs)
    assert same(plain, watched)
    assert_clean(model)

    maps, norms = dense(model, family, inputs, torch.float64)
    rounded, rounded_norms = dense(model, family, inputs, torch.float32)
    assert {entry.layer for entry in view.coverage()} == set(maps)
    for entry in view.coverage():
        which, weights = maps[entry.layer]
        assert (entry.calls, entry.reason, entry.missing) == (1, None, {})
        assert dict(entry.kinds) == {"cross" if which == "cross_attentions" else "self": 1}
        assert dict(entry.kernels) == {FUSED if impl == "sdpa" else "softmax": 1}
        assert dict(entry.masks) == {MASKS[family][which] if impl == "sdpa" else "in the scores": 1}
        real = real_rows(which, inputs, weights)
        assert entry.rows == real.expand(weights.shape[0], 1, weights.shape[2]).sum()
        names = ROW_NAMES if which == "cross_attentions" else ROW_NAMES + SQUARE_NAMES
        rows = {**expected_rows(weights, names), "output_norm": norms[entry.layer]}
        # The budget is the error that the model itself makes in float32.
        budgets = {
            **expected_rows(rounded[entry.layer][1].double(), names),
            "output_norm": rounded_norms[entry.layer].double(),
        }
        for name, expected in rows.items():
            errors = (expected - budgets[name])[real.expand_as(expected)]
            assert torch.equal(errors.isnan(), expected[real.expand_as(expected)].isnan())
            error = errors.nan_to_num().abs().max().item()
            torch.testing.assert_close(
                view[entry.layer][name], counted_mean(expected, real), atol=2 * error + 2e-6, rtol=0
            )


def test_softcap_and_sliding_window_make_a_difference() -> None:
    """Else the families that have them would show nothing."""
    inputs = inputs_of("gemma2")
    found = {}
    for family in ("llama", "mistral", "gemma2"):
        model = made(family, "eager")
        with watch(model, ["entropy"]) as view:
            model(**inputs)
        found[family] = view["model.layers.0.self_attn"]["entropy"]
    assert not torch.allclose(found["llama"], found["mistral"], atol=1e-2)
    assert not torch.allclose(found["mistral"], found["gemma2"], atol=1e-2)


def loss_of(result: Any) -> Tensor:
    return sum(tensor.square().mean() for tensor in tensors_in(result) if tensor.requires_grad)


def trained(model: nn.Module, inputs: dict[str, Tensor], watched: bool, names: list[str]) -> tuple[Any, Any, View]:
    """One step with a fixed seed; returns the outputs, the gradients and the view."""
    model.zero_grad()
    watcher = watch(model, names)
    if watched:
        watcher.start()
    torch.manual_seed(3)
    result = model(**inputs)
    loss_of(result).backward()
    view = watcher.stop()
    return result, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None], view


@pytest.mark.parametrize(("family", "impl"), CASES)
def test_a_training_step_with_dropout_keeps_its_bits(family: str, impl: str) -> None:
    model, inputs = made(family, impl, 1.0).train(), inputs_of(family)
    if family not in ("gpt2", "bert", "t5"):
        model.config.attention_dropout = 0.1
    plain, expected, _ = trained(model, inputs, False, ["entropy"])
    result, gradients, view = trained(model, inputs, True, [*ROW_NAMES, "output_norm", *GRADIENTS])
    assert same(plain, result)
    assert len(gradients) == len(expected) > 10
    assert all(torch.equal(one, other) for one, other in zip(expected, gradients, strict=True))
    assert all(entry.calls == 1 for entry in view.coverage())
    assert_clean(model)


def test_dropout_takes_the_math_path_and_its_statistics_are_those_before_dropout() -> None:
    config = BertConfig(vocab_size=50, **BLOCK, hidden_dropout_prob=0.0, attn_implementation="sdpa")
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).train()
    for parameter in model.parameters():
        parameter.data *= 4 if parameter.ndim > 1 else 1
    inputs = inputs_of("bert")
    _, _, view = trained(model, inputs, True, ["entropy", "max_weight"])
    assert view.kernels() == {"math": 2}
    twin = copy.deepcopy(model.bert).double().eval()
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        weights = twin(**inputs, output_attentions=True).attentions[0]
    real = PADDED.bool()[:, None, :]
    for name, rows in expected_rows(weights, ["entropy", "max_weight"]).items():
        found = view["bert.encoder.layer.0"][name]
        torch.testing.assert_close(found, counted_mean(rows, real), atol=2e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(("family", "impl"), [("bert", "sdpa"), ("llama", "sdpa"), ("gpt2", "eager")])
def test_checkpointed_layers_are_counted_once(family: str, impl: str, use_reentrant: bool) -> None:
    model, inputs = made(family, impl, 1.0).train(), inputs_of(family)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    if family != "llama":  # the dropout of attention would leave the fused kernel, whose backward is heard
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    names = ["entropy", "output_norm", *(GRADIENTS if impl == "sdpa" else [])]
    _, _, plain = trained(model, inputs, True, names)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    _, unwatched, _ = trained(model, inputs, False, names)
    _, gradients, view = trained(model, inputs, True, names)
    assert all(torch.equal(one, other) for one, other in zip(unwatched, gradients, strict=True))
    assert view.kernels() == plain.kernels()
    assert [entry.calls for entry in view.coverage()] == [1, 1]
    table, expected = (
        {(row["layer"], row["statistic"], row["head"]): row for row in one.table()} for one in (view, plain)
    )
    assert table.keys() == expected.keys()
    assert {statistic for _, statistic, _ in table} == set(names)
    assert all(table[where]["num_rows"] == expected[where]["num_rows"] for where in table)
    assert all(table[where]["mean"] == pytest.approx(expected[where]["mean"], rel=1e-6) for where in table)


def test_gradient_statistics_equal_those_of_autograd() -> None:
    """The norms by head of the gradients that reach queries, keys, values and output of a grouped, rotated model."""
    model, inputs = made("llama", "sdpa", 2.0).train(), inputs_of("llama")
    _, _, view = trained(model, inputs, True, GRADIENTS)

    kept: list[dict[str, Tensor]] = []
    original = nn.functional.scaled_dot_product_attention

    def keeping(query: Tensor, key: Tensor, value: Tensor, **masking: Any) -> Tensor:
        output = original(query, key, value, **masking)
        tensors = {"query": query, "key": key, "value": value, "output": output}
        kept.append(tensors)
        for tensor in tensors.values():
            tensor.retain_grad()
        return output

    torch.nn.functional.scaled_dot_product_attention = keeping
    try:
        trained(model, inputs, False, GRADIENTS)
    finally:
        torch.nn.functional.scaled_dot_product_attention = original
    assert len(kept) == 2
    for number, tensors in enumerate(kept):
        squares = {name: tensor.grad.double().square().sum((2, 3)) for name, tensor in tensors.items()}
        for name in ("query", "key", "value"):
            group = 4 // squares[name].shape[1]
            squares[name] = squares[name].repeat_interleave(group, 1) / group
        qk = (squares["query"] + squares["key"]).sqrt()
        vo = (squares["value"] + squares["output"]).sqrt()
        output = tensors["output"]
        importance = (output.grad.double() * output.double()).sum((2, 3)).abs()
        seen = view[f"model.layers.{number}.self_attn"]
        torch.testing.assert_close(seen["qk_gradient"], qk.mean(0), rtol=1e-5, atol=0)
        torch.testing.assert_close(seen["vo_gradient"], vo.mean(0), rtol=1e-5, atol=0)
        torch.testing.assert_close(seen["gradient_ratio"], (qk / vo).mean(0), rtol=1e-5, atol=0)
        torch.testing.assert_close(seen["head_importance"], importance.mean(0), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("family", ["bert", "llama", "t5", "vit"])
def test_autocast_keeps_its_bits_in_training(family: str) -> None:
    model, inputs = made(family, "sdpa", 1.0).train(), inputs_of(family)
    with torch.autocast("cpu", torch.bfloat16):
        plain, expected, _ = trained(model, inputs, False, ["entropy"])
    with torch.autocast("cpu", torch.bfloat16):  # anew, as its cache of cast weights would serve the first step only
        result, gradients, view = trained(model, inputs, True, ["entropy", "output_norm", *GRADIENTS])
    assert same(plain, result)
    assert all(torch.equal(one, other) for one, other in zip(expected, gradients, strict=True))
    assert not any(math.isnan(row["mean"]) for row in view.table())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_the_entropy_of_its_rounded_tensors(dtype: torch.dtype) -> None:
    """In a sharpened model the entropy from half-precision queries and keys stays within 0.002 nats of float64."""
    model, inputs = made("llama", "sdpa", 3.0).to(dtype), inputs_of("llama")
    kept: list[tuple[Tensor, Tensor, Any]] = []
    original = nn.functional.scaled_dot_product_attention

    def keeping(query: Tensor, key: Tensor, value: Tensor, **masking: Any) -> Tensor:
        kept.append((query.double(), key.double(), masking))
        return original(query, key, value, **masking)

    with torch.no_grad():
        plain = model(**inputs)
        with watch(model, ["entropy"]) as view:
            assert same(plain, model(**inputs))
        torch.nn.functional.scaled_dot_product_attention = keeping
        try:
            model(**inputs)
        finally:
            torch.nn.functional.scaled_dot_product_attention = original
    for number, (query, key, masking) in enumerate(kept):
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scores = query @ key.mT * masking["scale"]
        weights = scores.masked_fill(~masking["attn_mask"], -torch.inf).softmax(-1)
        expected = counted_mean(torch.special.entr(weights).sum(-1), PADDED.bool()[:, None, :])
        found = view[f"model.layers.{number}.self_attn"]["entropy"]
        torch.testing.assert_close(found, expected, atol=0.002, rtol=0)


def test_an_exception_within_a_model_leaves_nothing_and_the_next_forward_is_whole() -> None:
    model, inputs = made("bert", "sdpa"), inputs_of("bert")
    with watch(model, ["entropy"]) as clean:
        model(**inputs)

    def fail(*_: Any) -> None:
        raise ValueError("out of luck")

    with watch(model, ["entropy"]) as view:
        broken = model.encoder.layer[1].attention.self.register_forward_pre_hook(fail)
        with pytest.raises(ValueError, match="out of luck"):
            model(**inputs)
        broken.remove()
        model(**inputs)
    assert [entry.calls for entry in view.coverage()] == [2, 1]
    for layer in view.layers:
        assert torch.equal(view[layer]["entropy"], clean[layer]["entropy"])
    assert_clean(model)
    model.encoder.layer[1].attention.self.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="out of luck"), watch(model):
        model(**inputs)
    model.encoder.layer[1].attention.self._forward_pre_hooks.clear()
    assert_clean(model)
