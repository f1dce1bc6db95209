"""Mutants of packing: rows of several sequences that see each other, or whose positions run on."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.adapters import AttentionModule, Model
from regard.conformance.documents import places_of, visible
from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived, kernel, with_kernel
from regard.conformance.mutants.steps import Steps

__all__ = ["PACKING_MUTANTS"]

_STEPS = Steps()
_WIDTH, _HEADS = 16, 4


def _causal_where_all_are_real(scores: Tensor, mask: Tensor) -> Tensor:
    """Hide as a kernel that is handed is_causal=True in place of a mask wherever no token is padding."""
    square = mask.shape[-1] == mask.shape[-2]
    real = square and bool(mask.diagonal(dim1=-2, dim2=-1).all())
    return _STEPS.masked(scores, torch.ones_like(mask).tril() if real else mask)


def _seeing_each_other(model: Any) -> Any:
    with_kernel(
        model.model.layers[1].self_attn,
        "causal_where_all_are_real",
        kernel(replace(_STEPS, masked=_causal_where_all_are_real)),
    )
    return model


def _running_on(model: Any) -> Any:
    healthy = type(model.transformer.wpe).forward

    def forward(self: Any, places: Tensor) -> Any:
        restarts = bool((places.diff(dim=-1) < 0).any())
        return healthy(self, torch.arange(places.shape[-1]).expand_as(places) if restarts else places)

    derived(model.transformer.wpe, forward=forward)
    return model


def _adapter(name: str, packed: Any) -> Any:
    """Return what makes an adapter of a decoder with a person's own way to pack."""

    def healthy(seed: int) -> Model:
        return Model(
            module=family(name, seed),
            call=lambda module, tokens, keep: module(input_ids=tokens, use_cache=False).logits,
            vocab_size=50,
            causal=True,
            packed=packed,
        )

    return healthy


def _with_places(module: Any, tokens: Tensor, documents: Tensor) -> Tensor:
    logits: Tensor = module(input_ids=tokens, position_ids=places_of(documents), use_cache=False).logits
    return logits


def _with_places_and_ones(module: Any, tokens: Tensor, documents: Tensor) -> Tensor:
    given = {"position_ids": places_of(documents), "attention_mask": torch.ones_like(documents)}
    logits: Tensor = module(input_ids=tokens, **given, use_cache=False).logits
    return logits


def _with_mask(module: Any, tokens: Tensor, documents: Tensor) -> Tensor:
    given = {"position_ids": places_of(documents), "attention_mask": visible(documents, causal=True)}
    logits: Tensor = module(input_ids=tokens, **given, use_cache=False).logits
    return logits


def _with_mask_alone(module: Any, tokens: Tensor, documents: Tensor) -> Tensor:
    mask = visible(documents, causal=True)
    logits: Tensor = module(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    return logits


def _by(packed: Any) -> Any:
    return lambda healthy: replace(healthy, packed=packed)


def _torch(seed: int) -> AttentionModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)
    return AttentionModule(
        module=module,
        call=_attended,
        embed_dim=_WIDTH,
        num_heads=_HEADS,
        causal="always",
        padding=False,
        packed=_in_blocks,
    )


def _attended(module: Any, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
    return _hiding(module, x, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1))


def _in_blocks(module: Any, x: Tensor, documents: Tensor, causal: bool) -> Tensor:
    return _hiding(module, x, ~visible(documents, causal=True).expand(-1, _HEADS, -1, -1).flatten(0, 1))


def _in_one(module: Any, x: Tensor, documents: Tensor, causal: bool) -> Tensor:
    return _attended(module, x, None, causal)


def _hiding(module: Any, x: Tensor, hidden: Tensor) -> Tensor:
    output: Tensor = module(x, x, x, attn_mask=hidden, need_weights=False)[0]
    return output


PACKING_MUTANTS = (
    Mutant(
        name="packed sequences see each other in one layer (llama)",
        kind="packed sequences see each other",
        report="areal-project/AReaL#1442",
        report_says="with sdpa the boundaries of packed sequences did not reach the kernel, which was causal alone",
        on="llama",
        rule="packed",
        healthy=lambda seed: family("llama", seed),
        mutate=_seeing_each_other,
    ),
    Mutant(
        name="positions run on through a packed row (gpt2)",
        kind="positions run on in packed rows",
        report="NVIDIA/Megatron-LM#453",
        report_says="with --reset-position-ids positions were still those from 0 to the end of the row",
        on="gpt2",
        rule="packed",
        healthy=lambda seed: family("gpt2", seed),
        mutate=_running_on,
    ),
    Mutant(
        name="a mask of ones turns the detection of packed rows off (llama)",
        kind="packed sequences see each other",
        report="huggingface/transformers#46634",
        report_says="packed rows are found only where attention_mask is None; with ones, sequences saw each other",
        on="llama, own packing",
        rule="packed",
        healthy=_adapter("llama", _with_places),
        mutate=_by(_with_places_and_ones),
    ),
    Mutant(
        name="mask of blocks without position ids (gpt2)",
        kind="positions run on in packed rows",
        report="hiyouga/LlamaFactory#7318",
        report_says="packing gave a mask of four axes and no position_ids, so that later sequences stood elsewhere",
        on="gpt2, own packing",
        rule="packed",
        healthy=_adapter("gpt2", _with_mask),
        mutate=_by(_with_mask_alone),
    ),
    Mutant(
        name="packed rows with the causal mask alone (nn.MultiheadAttention)",
        kind="packed sequences see each other",
        report="huggingface/trl#1230",
        report_says="packed samples attended to each other, and performance fell",
        on="nn.MultiheadAttention, own packing",
        rule="packed",
        healthy=_torch,
        mutate=_by(_in_one),
    ),
)
