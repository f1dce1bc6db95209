"""Mutants of decoders: GPT-2, Llama, Qwen, Mistral and Gemma, built small from their configurations."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived, kernel, with_kernel
from regard.conformance.mutants.steps import Steps

__all__ = ["DECODER_MUTANTS"]

_STEPS = Steps()
_WINDOW = 4
_NO_BACKWARD = "an operator without a backward pass gave its input no gradient, and the attention learnt nothing useful"


def _mutant(on: str, name: str, kind: str, rule: str, report: str, says: str, mutate: Any, **sizes: Any) -> Mutant:
    return Mutant(
        name=f"{name} ({on})",
        kind=kind,
        report=report,
        report_says=says,
        on=on,
        rule=rule,
        healthy=lambda seed: family(on, seed, **sizes),
        mutate=mutate,
    )


def _kernel(place: Callable[[Any], Any], name: str, steps: Steps, *, merge: bool = True) -> Callable[[Any], Any]:
    """Return the patch that gives one layer another kernel."""

    def mutate(model: Any) -> Any:
        with_kernel(place(model), name, kernel(steps, merge=merge))
        return model

    return mutate


def _gpt2(model: Any) -> Any:
    return model.transformer.h[1].attn


def _llama(model: Any) -> Any:
    return model.model.layers[1].self_attn


def _all(q_len: int, kv_len: int) -> Tensor:
    return torch.ones(q_len, kv_len, dtype=torch.bool)


def _not_in_head_2(scores: Tensor, mask: Tensor) -> Tensor:
    masked = _STEPS.masked(scores, mask)
    return torch.cat((masked[:, :2], scores[:, 2:3], masked[:, 3:]), 1)


def _in_chunk(scores: Tensor) -> bool:
    """Return whether these are scores of several tokens behind cached ones."""
    return 1 < scores.shape[2] < scores.shape[3]


def _unmasked_chunk(scores: Tensor, mask: Tensor) -> Tensor:
    return scores if _in_chunk(scores) else _STEPS.masked(scores, mask)


def _top_left_chunk(scores: Tensor, mask: Tensor) -> Tensor:
    corner = torch.ones(scores.shape[2:], dtype=torch.bool).tril()
    return _STEPS.masked(scores, corner if _in_chunk(scores) else mask)


def _detached_key(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (factor * query) @ key.detach().mT


def _tiled(tensor: Tensor, group: int) -> Tensor:
    return tensor.repeat(1, group, 1, 1)


def _wider(scores: Tensor, mask: Tensor, window: int) -> Tensor:
    """Hide as for another window; keys that no query may see, such as padding, stay hidden."""
    q_len, kv_len = scores.shape[2:]
    back = torch.arange(q_len)[:, None] + kv_len - q_len - torch.arange(kv_len)
    return _STEPS.masked(scores, (back >= 0) & (back < window) & mask.any(-2, keepdim=True))


def _without_window(model: Any) -> Any:
    for layer in model.model.layers:
        with_kernel(layer.self_attn, "without_window", kernel(replace(_STEPS, masked=partial(_wider, window=1000))))
    return model


def _without_positions(model: Any) -> Any:
    inner = type(model.transformer)

    def forward(self: Any, *inputs: Any, **given: Any) -> Any:
        return inner.forward(self, *inputs, **{**given, "position_ids": None})

    derived(model.transformer, forward=forward)
    return model


def _unscaled(model: Any) -> Any:
    for block in model.transformer.h:
        block.attn.scaling = None
    return model


def _sharp(model: Any) -> Any:
    """Return the model with queries and keys of the size that training gives them; fresh ones attend evenly."""
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight[:, :64] *= 20
    return model


def _stepping(positions: Callable[[Tensor, int], Tensor]) -> Callable[[Any], Any]:
    """Return the patch of what positions a step behind cached tokens has, from those that it should have."""

    def mutate(model: Any) -> Any:
        inner = type(model.model)

        def forward(self: Any, input_ids: Any = None, **given: Any) -> Any:
            cache = given.get("cache", given.get("past_key_values"))
            past = 0 if cache is None else cache.get_seq_length()
            if past:
                places = given.get("position_ids")
                places = torch.arange(input_ids.shape[1])[None] + past if places is None else places
                given["position_ids"] = positions(places, past)
            return inner.forward(self, input_ids, **given)

        derived(model.model, forward=forward)
        return model

    return mutate


def _by_length(healthy: Any) -> Any:
    def forward(self: Any, x: Tensor, position_ids: Tensor) -> Any:
        known = self.__dict__.setdefault("known", {})
        if position_ids.shape not in known:
            known[position_ids.shape] = healthy(self, x.double(), position_ids)
        return tuple(one.to(x.dtype) for one in known[position_ids.shape])

    return forward


def _all_alike(healthy: Any) -> Any:
    def forward(self: Any, x: Tensor, position_ids: Tensor) -> Any:
        return healthy(self, x, torch.ones_like(position_ids))

    return forward


def _other_pairs(healthy: Any) -> Any:
    def forward(self: Any, x: Tensor, position_ids: Tensor) -> Any:
        tables = healthy(self, x, position_ids)
        return tuple(one[..., : one.shape[-1] // 2].repeat_interleave(2, -1) for one in tables)

    return forward


def _rotary(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the patch of the rotary tables; ``make`` goes from the healthy forward to the broken one."""

    def mutate(model: Any) -> Any:
        derived(model.model.rotary_emb, forward=make(type(model.model.rotary_emb).forward))
        return model

    return mutate


def _unsharpened(model: Any) -> Any:
    model.model.rotary_emb.attention_scaling = 1.0
    return model


def _eager_without_mask(model: Any) -> Any:
    for layer in model.model.layers:
        healthy = type(layer.self_attn).forward

        def forward(self: Any, *inputs: Any, _healthy: Any = healthy, **given: Any) -> Any:
            if self.config._attn_implementation == "eager":
                given["attention_mask"] = None
            return _healthy(self, *inputs, **given)

        derived(layer.self_attn, forward=forward)
    return model


def _causal_only_without_mask(model: Any) -> Any:
    inner = type(model.model)

    def forward(self: Any, input_ids: Any = None, attention_mask: Tensor | None = None, **given: Any) -> Any:
        if attention_mask is not None and attention_mask.ndim == 2:
            attention_mask = attention_mask[:, None, None].bool().expand(-1, 1, input_ids.shape[1], -1)
        return inner.forward(self, input_ids, attention_mask, **given)

    derived(model.model, forward=forward)
    return model


def _uncapped(model: Any) -> Any:
    model.model.layers[1].self_attn.attn_logit_softcapping = None
    return model


def _capped_with_mask(model: Any) -> Any:
    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any) -> Any:
        cap = given["softcap"]
        capped = replace(_STEPS, weights=lambda scores: (cap * torch.tanh(scores / cap)).softmax(-1))
        return kernel(capped)(module, query, key, value, mask, scaling=given["scaling"])

    with_kernel(_llama(model), "capped_with_mask", attend)
    return model


DECODER_MUTANTS = (
    _mutant(
        "gpt2",
        "causal mask dropped in one layer",
        "causal mask dropped",
        "causality",
        "facebookresearch/xformers#103",
        "the causal mask was skipped whenever no other mask was passed",
        _kernel(_gpt2, "without_causal", replace(_STEPS, causal=_all)),
    ),
    _mutant(
        "gpt2",
        "causal mask dropped in one head",
        "causal mask dropped",
        "causality",
        "huggingface/transformers#48745",
        "decoder layers of four models attended to later tokens, and the training loss collapsed",
        _kernel(_gpt2, "not_in_head_2", replace(_STEPS, masked=_not_in_head_2)),
    ),
    _mutant(
        "gpt2",
        "causal mask one too far",
        "causal mask off by one",
        "causality",
        "flashinfer-ai/flashinfer#348",
        "the comparison of the causal mask was off by one, and each query saw the next key",
        _kernel(
            _gpt2,
            "one_too_far",
            replace(_STEPS, causal=lambda q_len, kv_len: _all(q_len, kv_len).tril(kv_len - q_len + 1)),
        ),
    ),
    _mutant(
        "gpt2",
        "position ids ignored",
        "positions ignored under left padding",
        "padding",
        "ndif-team/nnsight#672",
        "a left-padded batch ran with positions that counted the padding, and shorter prompts were mispredicted",
        _without_positions,
    ),
    _mutant(
        "gpt2",
        "chunk after a cache not masked",
        "causal corner",
        "causal_corner",
        "Mikyx-1/TinyLLM#17",
        "the causal mask was applied only where there was no cache, so that a prompt saw its own future",
        _kernel(_gpt2, "unmasked_chunk", replace(_STEPS, masked=_unmasked_chunk)),
    ),
    _mutant(
        "gpt2",
        "declared scale does not reach the kernel",
        "scale argument ignored",
        "scale",
        "huggingface/transformers#44397",
        "scale_attn_weights and its sibling were heeded by eager attention and ignored by the fused kernels",
        _unscaled,
        scale_attn_weights=False,
    ),
    Mutant(
        name="no gradient to the keys (gpt2)",
        kind="gradient blocked",
        report="facebookresearch/fairseq#4270",
        report_says=_NO_BACKWARD,
        on="gpt2",
        rule="gradients",
        healthy=lambda seed: _sharp(family("gpt2", seed)),
        mutate=_kernel(_gpt2, "detached_key", replace(_STEPS, scores=_detached_key)),
    ),
    _mutant(
        "llama",
        "key heads tiled",
        "key heads in the wrong order",
        "grouped_heads",
        "apple/axlearn#842",
        "a change repeated key heads as 0 1 0 1 where they had been 0 0 1 1",
        _kernel(_llama, "tiled", replace(_STEPS, spread=_tiled)),
    ),
    _mutant(
        "llama",
        "heads reshaped without transpose",
        "heads merged in the wrong order",
        "head_merge",
        "jsbaan/transformer-from-scratch#6",
        "heads were reshaped without swapping heads and tokens first, which mixed tokens; the test still passed",
        _kernel(_llama, "without_transpose", _STEPS, merge=False),
    ),
    _mutant(
        "llama",
        "steps one position too far",
        "cache offset by one",
        "cache",
        "microsoft/onnxruntime-genai#2354",
        "each decoding step was placed one position behind where it belonged",
        _stepping(lambda places, past: places + 1),
    ),
    _mutant(
        "qwen2",
        "steps at position 0",
        "steps start at position 0",
        "cache",
        "Blaizzy/mlx-vlm#1983",
        "positions of a step ignored the cache, so that every generated token stood at position 0",
        _stepping(lambda places, past: places - past),
    ),
    _mutant(
        "llama",
        "steps ignore position ids",
        "positions ignored under left padding",
        "cache",
        "unslothai/unsloth#3795",
        "in steps one position was shared by the whole batch, and left-padded rows came out wrong",
        _stepping(lambda places, past: torch.arange(places.shape[1])[None] + past),
    ),
    _mutant(
        "llama",
        "rotary tables remembered by length",
        "state carried between calls",
        "cache",
        "lucidrains/rotary-embedding-torch#11",
        "rotary frequencies were remembered by length alone, and another offset got those of the first",
        _rotary(_by_length),
    ),
    _mutant(
        "llama",
        "every token turned alike",
        "positions lost",
        "positions",
        "mlfoundations/open_lm#4",
        "rotary embeddings ran over the axis of heads, so that all tokens of a head were turned by the same angle",
        _rotary(_all_alike),
    ),
    _mutant(
        "llama",
        "rotary pairs and frequencies do not match",
        "rotary pairing",
        "positions",
        "raiyanyahya/how-to-train-your-gpt#6",
        "frequencies were laid out for neighbouring pairs and applied to halves, so that scores were not relative",
        _rotary(_other_pairs),
    ),
    _mutant(
        "llama-yarn",
        "attention factor of YaRN lost",
        "scale argument ignored",
        "scale",
        "turboderp-org/exllamav3#259",
        "the attention factor of YaRN became 1, and the text was fluent and beside the prompt",
        _unsharpened,
    ),
    _mutant(
        "llama",
        "eager attention without causal mask",
        "implementations disagree",
        "paths",
        "huggingface/transformers#30652",
        "eager attention got no mask where the fused kernel would have been causal by itself",
        _eager_without_mask,
    ),
    _mutant(
        "llama",
        "chunk after a cache masked at the top left",
        "causal corner",
        "causal_corner",
        "pytorch/executorch#21749",
        "every chunk but the first was masked from the top left and lost its context",
        _kernel(_llama, "top_left_chunk", replace(_STEPS, masked=_top_left_chunk)),
    ),
    _mutant(
        "qwen2",
        "a padding mask replaces the causal one",
        "causal mask dropped",
        "causality",
        "huggingface/candle#3567",
        "with a padding mask the causal triangle was left out, and evaluation showed an accuracy of 100 %",
        _causal_only_without_mask,
    ),
    _mutant(
        "mistral",
        "window one too wide",
        "sliding window off by one",
        "window",
        "NVIDIA-NeMo/Megatron-Bridge#2656",
        "a window of W was passed to a kernel whose bound is inclusive, which sees W + 1 tokens",
        _kernel(_llama, "window_and_one", replace(_STEPS, masked=partial(_wider, window=_WINDOW + 1))),
    ),
    _mutant(
        "mistral",
        "window ignored",
        "sliding window ignored",
        "window",
        "unslothai/unsloth#8253",
        "the window never reached the fused kernel, and long sequences saw their whole history",
        _without_window,
    ),
    _mutant(
        "gemma2",
        "soft cap missing",
        "soft cap missing",
        "softcap",
        "vllm-project/vllm-metal#665",
        "the soft cap was passed to the kernel as a constant 0, which switches it off",
        _uncapped,
    ),
    _mutant(
        "gemma2",
        "soft cap after the mask",
        "soft cap after the mask",
        "softcap",
        "onnx/onnx#7865",
        "the cap was applied after the mask and made finite scores of masked ones",
        _capped_with_mask,
    ),
)
