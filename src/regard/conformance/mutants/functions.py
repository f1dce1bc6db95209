"""Mutants of a function with the signature of ``scaled_dot_product_attention``: one step done otherwise."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.steps import Steps, exchanged

__all__ = ["FUNCTION_MUTANTS"]

_HEALTHY = Steps()


def _mutant(
    name: str,
    kind: str,
    rule: str,
    report: str,
    says: str,
    mutate: Callable[[Steps], Any],
    assume: Mapping[str, Any] | None = None,
) -> Mutant:
    return Mutant(
        name=name,
        kind=kind,
        report=report,
        report_says=says,
        on="function",
        rule=rule,
        healthy=lambda seed: _HEALTHY,
        mutate=mutate,
        assume=assume or {},
    )


def _over_queries(scores: Tensor) -> Tensor:
    return scores.softmax(-2)


def _over_heads_and_keys(scores: Tensor) -> Tensor:
    batch, heads, q_len, kv_len = scores.shape
    together = scores.transpose(1, 2).flatten(2).softmax(-1)
    return together.view(batch, q_len, heads, kv_len).transpose(1, 2)


def _inverted(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


def _as_numbers(scores: Tensor, mask: Tensor) -> Tensor:
    return scores + mask.to(scores.dtype)


def _multiplied(scores: Tensor, mask: Tensor) -> Tensor:
    return scores * mask if mask.dtype == torch.bool else scores + mask


def _barely_hidden(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -math.e) if mask.dtype == torch.bool else scores + mask


def _on_queries(scores: Tensor, mask: Tensor) -> Tensor:
    square = mask.shape[-1] == mask.shape[-2]
    return _HEALTHY.masked(scores, mask.mT if square else mask)


def _not_assigned(scores: Tensor, mask: Tensor) -> Tensor:
    scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores


def _lowest(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return scores + mask
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def _lowest_in_sum(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return scores + mask
    lowest = (~mask).to(scores.dtype) * torch.finfo(scores.dtype).min
    return scores + (lowest + lowest)


def _scaled_too(scores: Tensor, mask: Tensor) -> Tensor:
    return _HEALTHY.masked(scores, mask if mask.dtype == torch.bool else mask / 4)


def _top_left(q_len: int, kv_len: int) -> Tensor:
    return torch.ones(q_len, kv_len, dtype=torch.bool).tril()


def _one_too_far(q_len: int, kv_len: int) -> Tensor:
    return torch.ones(q_len, kv_len, dtype=torch.bool).tril(kv_len - q_len + 1)


def _product_first(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (query @ key.mT) * factor


def _in_place(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return query.mul_(factor) @ key.mT


def _detached_key(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (factor * query) @ key.detach().mT


def _unscaled_dropout(weights: Tensor, dropout_p: float) -> Tensor:
    return weights if dropout_p == 0 else weights * (torch.rand_like(weights) >= dropout_p)


def _always_dropped(weights: Tensor, dropout_p: float) -> Tensor:
    return torch.dropout(weights, 0.1, train=True)


def _without_mask(healthy: Steps) -> Callable[..., Tensor]:
    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        return healthy(query, key, value)

    return attention


def _mask_after(healthy: Steps) -> Callable[..., Tensor]:
    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        weights = healthy.weights(healthy.scores(query, key, healthy.factor(query, None)))
        return healthy.mixed(weights if attn_mask is None else weights * attn_mask, value)

    return attention


def _growing(healthy: Steps) -> Callable[..., Tensor]:
    grown = [1.0]

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        grown[0] *= 1.001
        return healthy(query, key, value, scale=grown[0] * healthy.factor(query, None))

    return attention


FUNCTION_MUTANTS = (
    _mutant(
        "scale missing in a fallback",
        "scale missing",
        "scale",
        "mlc-ai/mlc-llm#3426",
        "a fallback attention path ran with a scale of 1 instead of 1/√head_dim and spoilt embeddings without an error",
        exchanged(factor=lambda query, scale: 1.0 if scale is None else scale),
    ),
    _mutant(
        "divided by the scale",
        "scale inverted",
        "scale",
        "esceptico/perceiver-io#9",
        "scores were divided by head_dim ** -0.5 where they had to be multiplied by it",
        exchanged(factor=lambda query, scale: 1 / _HEALTHY.factor(query, scale)),
    ),
    _mutant(
        "scale argument ignored",
        "scale argument ignored",
        "scale",
        "tenstorrent/tt-metal#33304",
        "scaled_dot_product_attention gave the same output with every value of scale=",
        exchanged(factor=lambda query, scale: _HEALTHY.factor(query, None)),
    ),
    _mutant(
        "softmax over the queries",
        "softmax over the wrong axis",
        "softmax",
        "labmlai/annotated_deep_learning_paper_implementations#146",
        "the softmax ran over the query axis of the scores; the maintainer called it a big bug, training hid it",
        exchanged(weights=_over_queries),
    ),
    _mutant(
        "softmax over heads and keys together",
        "softmax over the wrong axis",
        "softmax",
        "facebookresearch/detr#247",
        "heads were flattened into the softmax, so that they competed with each other",
        exchanged(weights=_over_heads_and_keys),
    ),
    _mutant(
        "boolean mask inverted",
        "mask inverted",
        "mask_sense",
        "pytorch/pytorch#114083",
        "a boolean mask means the opposite for nn.MultiheadAttention and for scaled_dot_product_attention",
        exchanged(masked=_inverted),
    ),
    _mutant(
        "boolean mask added as 0 and 1",
        "0/1 mask added",
        "mask_sense",
        "timeseriesAI/tsai#171",
        "with a mask that was not boolean nothing was masked after the softmax; its values had to be -inf and 0",
        exchanged(masked=_as_numbers),
    ),
    _mutant(
        "mask multiplied into the scores",
        "mask multiplied into the scores",
        "mask_sense",
        "georg-wolflein/good-features#1",
        "scores were multiplied by the mask; a score of 0 still has weight after the softmax",
        exchanged(masked=_multiplied),
    ),
    _mutant(
        "mask value too small",
        "mask value too small",
        "mask_sense",
        "hyunwoongko/transformer#10",
        "masked scores were filled with a small number instead of -inf, so hidden keys kept weight",
        exchanged(masked=_barely_hidden),
    ),
    _mutant(
        "mask on the queries",
        "mask over the wrong axis",
        "mask_sense",
        "lsdefine/attention-is-all-you-need-keras#16",
        "a padding mask was broadcast over the rows of the scores, so that whole queries were hidden instead of keys",
        exchanged(masked=_on_queries),
    ),
    _mutant(
        "mask not passed on",
        "mask ignored",
        "mask_sense",
        "huggingface/diffusers#8886",
        "the attention mask was not given to scaled_dot_product_attention, and padding was attended to",
        _without_mask,
    ),
    _mutant(
        "mask applied after the softmax",
        "mask after the softmax",
        "mask_sense",
        "huggingface/pytorch-image-models#2236",
        "the mask was applied after the softmax instead of before it",
        _mask_after,
    ),
    _mutant(
        "float mask scaled with the scores",
        "mask scaled",
        "mask_sense",
        "tenstorrent/tt-metal#42891",
        "the scale was folded into the exponent and diluted the float mask as well",
        exchanged(masked=_scaled_too),
    ),
    _mutant(
        "causal mask not assigned",
        "causal mask dropped",
        "causality",
        "QwenLM/Qwen#933",
        "masked_fill was called without using what it returned, and the causal triangle was lost",
        lambda healthy: _CausalOnly(exchanged(masked=_not_assigned)(healthy)),
    ),
    _mutant(
        "causal mask one too far",
        "causal mask off by one",
        "causality",
        "flashinfer-ai/flashinfer#348",
        "the comparison of the causal mask was off by one, and each query saw the next key",
        exchanged(causal=_one_too_far),
    ),
    _mutant(
        "causal mask at the top left",
        "causal corner",
        "causal_corner",
        "pytorch/pytorch#144858",
        "with is_causal=True and cached keys a single query saw only the oldest key",
        exchanged(causal=_top_left),
    ),
    _mutant(
        "key heads tiled",
        "key heads in the wrong order",
        "grouped_heads",
        "onnx/onnx#7274",
        "key heads were repeated with Tile (0 1 0 1) where PyTorch repeats interleaved (0 0 1 1)",
        exchanged(spread=lambda tensor, group: tensor.repeat(1, group, 1, 1)),
    ),
    _mutant(
        "NaN where all keys are hidden",
        "fully masked row gives NaN",
        "empty_rows",
        "pytorch/pytorch#103749",
        "a row of a boolean mask without a single True gave NaN",
        exchanged(weights=lambda scores: scores.softmax(-1)),
    ),
    _mutant(
        "mean of all values where all keys are hidden",
        "fully masked row attends to all",
        "empty_rows",
        "NVIDIA/apex#1390",
        "where every key was masked the softmax spread its weight evenly over all of them",
        exchanged(masked=_lowest),
    ),
    _mutant(
        "lowest number added twice",
        "lowest number overflows",
        "empty_rows",
        "NVIDIA-NeMo/Automodel#2658",
        "two masks of the type's lowest number were added and overflowed to -inf, the reported cause of NaN gradients",
        exchanged(masked=_lowest_in_sum, weights=lambda scores: scores.softmax(-1)),
    ),
    _mutant(
        "scale after a half-precision product",
        "overflow in half precision",
        "dtype_headroom",
        "ultralytics/ultralytics#24990",
        "the product of queries and keys was scaled afterwards, overflowed float16 and turned the softmax into NaN",
        exchanged(scores=_product_first),
        {"dtype": torch.float16},
    ),
    _mutant(
        "dropout without a switch",
        "dropout active in evaluation",
        "dropout",
        "pytorch/pytorch#124464",
        "scaled_dot_product_attention drops weights also in evaluation mode",
        exchanged(dropped=_always_dropped),
    ),
    _mutant(
        "dropout without rescaling",
        "dropout not rescaled",
        "dropout",
        "NVIDIA/apex#816",
        "dropout in multi-head attention was scaled by p instead of 1/(1 - p), in its backward pass",
        exchanged(dropped=_unscaled_dropout),
    ),
    _mutant(
        "scale that grows from call to call",
        "state carried between calls",
        "determinism",
        "flagos-ai/FlagGems#424",
        "the scale was multiplied in place in each iteration of a kernel and blew up",
        _growing,
    ),
    _mutant(
        "query scaled in place",
        "input changed in place",
        "untouched",
        "open-edge-platform/physical-ai-studio#589",
        "an input was aliased and changed in place, so that every later layer got wrong positions",
        exchanged(scores=_in_place),
    ),
    _mutant(
        "no gradient to the keys",
        "gradient blocked",
        "gradients",
        "facebookresearch/fairseq#4270",
        "an operator without a backward pass gave its input no gradient, and the attention learnt nothing useful",
        exchanged(scores=_detached_key),
    ),
)


class _CausalOnly:
    """A causal function without a mask argument."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, is_causal: bool = False) -> Tensor:
        return self.steps(query, key, value, is_causal=is_causal)
