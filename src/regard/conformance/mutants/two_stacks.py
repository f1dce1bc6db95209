"""Mutants of encoder–decoders: T5, BART and Whisper, built small from their configurations."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived, kernel, with_kernel
from regard.conformance.mutants.steps import Steps

__all__ = ["TWO_STACK_MUTANTS"]

_STEPS = Steps()


def _mutant(on: str, name: str, kind: str, rule: str, report: str, says: str, mutate: Any) -> Mutant:
    return Mutant(
        name=f"{name} ({on})",
        kind=kind,
        report=report,
        report_says=says,
        on=on,
        rule=rule,
        healthy=lambda seed: family(on, seed),
        mutate=mutate,
    )


def _without_mask_across(model: Any) -> Any:
    layer = model.decoder.block[1].layer[1].EncDecAttention
    healthy = type(layer).forward

    def forward(self: Any, hidden_states: Tensor, mask: Any = None, **given: Any) -> Any:
        return healthy(self, hidden_states, None, **given)

    derived(layer, forward=forward)
    return model


def _bias_from_0(model: Any) -> Any:
    layer = model.decoder.block[0].layer[0].SelfAttention
    healthy = type(layer).compute_bias

    def compute_bias(self: Any, query_length: int, key_length: int, device: Any = None, **_: Any) -> Tensor:
        made: Tensor = healthy(self, query_length, key_length, device=device)
        return made

    derived(layer, compute_bias=compute_bias)
    return model


def _scaled_twice(model: Any) -> Any:
    layer = model.model.decoder.layers[1].self_attn
    with_kernel(layer, "scaled_twice", kernel(replace(_STEPS, factor=lambda query, scale: 1 / query.shape[-1])))
    return model


def _causal_across(model: Any) -> Any:
    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any) -> Any:
        corner = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
        return kernel(_STEPS)(module, query, key, value, corner, scaling=given["scaling"])

    for place in (0, 1):
        with_kernel(model.model.decoder.layers[place].encoder_attn, "causal_across", attend)
    return model


def _without_positions(model: Any) -> Any:
    inner = type(model.decoder)

    def forward(self: Any, *inputs: Any, **given: Any) -> Any:
        return inner.forward(self, *inputs, **{**given, "position_ids": None})

    derived(model.decoder, forward=forward)
    return model


TWO_STACK_MUTANTS = (
    _mutant(
        "t5",
        "padding of the encoder attended in the decoder",
        "cross-attention mask ignored",
        "padding",
        "huggingface/transformers#36293",
        "the mask of the encoder's tokens was ignored in the decoder, and padding changed what was generated",
        _without_mask_across,
    ),
    _mutant(
        "t5",
        "position bias of a step begins at 0",
        "relative position without the cache",
        "cache",
        "huggingface/candle#899",
        "relative position biases did not take the cache into account",
        _bias_from_0,
    ),
    _mutant(
        "bart",
        "scaled twice",
        "scale applied twice",
        "scale",
        "huggingface/transformers#38290",
        "queries were scaled by the model and again by the kernel",
        _scaled_twice,
    ),
    _mutant(
        "bart",
        "cross-attention is causal",
        "causal mask in cross-attention",
        "cross_lengths",
        "NVIDIA/TransformerEngine#629",
        "a window that means causal was passed to the cross-attention as well",
        _causal_across,
    ),
    _mutant(
        "whisper",
        "position ids ignored",
        "positions ignored under left padding",
        "padding",
        "huggingface/transformers#48028",
        "positions of the decoder were no longer counted over its mask, and left-padded rows of a batch were shifted",
        _without_positions,
    ),
)
