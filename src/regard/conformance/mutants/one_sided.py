"""Mutants of what should read both sides: an encoder, or a layer of one, that is causal."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived, kernel, with_kernel
from regard.conformance.mutants.steps import Steps
from regard.functional import causal_mask

__all__ = ["ONE_SIDED_MUTANTS"]

_STEPS = Steps()


def _lower(scores: Tensor) -> Tensor:
    return _STEPS.masked(scores, causal_mask(*scores.shape[-2:]))


_CAUSAL = kernel(replace(_STEPS, weights=lambda scores: _STEPS.weights(_lower(scores))))


def _causal_layer(model: Any) -> Any:
    with_kernel(model.encoder.layer[1].attention.self, "causal_layer", _CAUSAL)
    return model


def _causal_encoder(model: Any) -> Any:
    for layer in model.encoder.layers:
        with_kernel(layer.self_attn, "causal_encoder", _CAUSAL)
    return model


def _masks_still_causal(model: Any) -> Any:
    inner = type(model.model)

    def forward(self: Any, input_ids: Any = None, attention_mask: Tensor | None = None, **given: Any) -> Any:
        if attention_mask is None or attention_mask.ndim == 2:
            later = causal_mask(input_ids.shape[1], input_ids.shape[1])[None, None]
            attention_mask = later if attention_mask is None else later & attention_mask[:, None, None].bool()
        return inner.forward(self, input_ids, attention_mask, **given)

    derived(model.model, forward=forward)
    return model


ONE_SIDED_MUTANTS = (
    Mutant(
        name="one layer is causal (bert)",
        kind="encoder is causal",
        report="huggingface/transformers#39554",
        report_says="a kernel took is_causal from the layer, where it is True, and ignored what it was given",
        on="bert",
        rule="bidirectional",
        healthy=lambda seed: family("bert", seed),
        mutate=_causal_layer,
    ),
    Mutant(
        name="encoder is causal (whisper)",
        kind="encoder is causal",
        report="OpenNMT/CTranslate2#2083",
        report_says="a fused kernel was causal by default, which is right for decoders and wrong for Whisper's encoder",
        on="whisper",
        rule="bidirectional",
        healthy=lambda seed: family("whisper", seed),
        mutate=_causal_encoder,
    ),
    Mutant(
        name="masks of a bidirectional decoder are causal (llama)",
        kind="encoder is causal",
        report="huggingface/transformers#46077",
        report_says="layers were bidirectional as configured, and their masks were causal all the same",
        on="llama, bidirectional",
        rule="bidirectional",
        healthy=lambda seed: family("llama", seed, is_causal=False, use_cache=False),
        mutate=_masks_still_causal,
    ),
)
