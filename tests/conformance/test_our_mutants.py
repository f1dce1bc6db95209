"""Mutants of regard's own multi-head attention, which the room conformance may not import."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from regard.conformance import check
from regard.conformance.mutants import Mutant
from regard.conformance.mutants.patches import derived
from regard.modules import MultiHeadAttention


def _healthy(seed: int, **options: Any) -> MultiHeadAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MultiHeadAttention(16, 4, **options)


def _attending(change: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return the patch of what the layer's attention is given: (query, key, value, keep) -> the same."""

    def mutate(module: Any) -> Any:
        healthy = type(module)._attend

        def _attend(self: Any, query: Tensor, key: Tensor, value: Tensor, keep: Any, bias: Any) -> Tensor:
            return healthy(self, *change(query, key, value, keep), bias)

        derived(module, _attend=_attend)
        return module

    return mutate


def _not_causal(module: Any) -> Any:
    healthy = type(module)._attend

    def _attend(self: Any, *given: Any) -> Tensor:
        self.causal = False
        output = healthy(self, *given)
        self.causal = True
        return output

    derived(module, _attend=_attend)
    return module


def _merged_wrongly(module: Any) -> Any:
    healthy = type(module)._attend

    def _attend(self: Any, *given: Any) -> Tensor:
        output = healthy(self, *given)
        return output.reshape(output.shape[0], output.shape[2], self.num_heads, -1).transpose(1, 2)

    derived(module, _attend=_attend)
    return module


def _mutant(name: str, kind: str, rule: str, report: str, says: str, mutate: Any, **options: Any) -> Mutant:
    return Mutant(
        name=f"{name} (regard.modules)",
        kind=kind,
        report=report,
        report_says=says,
        on="regard.modules.MultiHeadAttention",
        rule=rule,
        healthy=lambda seed: _healthy(seed, **options),
        mutate=mutate,
    )


MUTANTS = (
    _mutant(
        "scaled twice",
        "scale applied twice",
        "scale",
        "huggingface/transformers#38290",
        "queries were scaled by the model and again by the kernel",
        _attending(lambda query, key, value, keep: (query / 2, key, value, keep)),
    ),
    _mutant(
        "padding mask inverted",
        "mask inverted",
        "mask_sense",
        "nyu-mll/jiant#465",
        "the attention mask of BERT had the wrong sign: ones must stand for real tokens",
        _attending(lambda query, key, value, keep: (query, key, value, None if keep is None else ~keep)),
    ),
    _mutant(
        "key heads tiled",
        "key heads in the wrong order",
        "grouped_heads",
        "onnx/onnx#7274",
        "key heads were repeated with Tile (0 1 0 1) where PyTorch repeats interleaved (0 0 1 1)",
        _attending(lambda query, key, value, keep: (query, key.repeat(1, 2, 1, 1), value.repeat(1, 2, 1, 1), keep)),
        num_kv_heads=2,
    ),
    _mutant(
        "causal mask dropped",
        "causal mask dropped",
        "causality",
        "keras-team/keras#23038",
        "MultiHeadAttention dropped its causal mask in silence wherever the fused kernel could not run",
        _not_causal,
        causal=True,
    ),
    _mutant(
        "heads merged without transpose",
        "heads merged in the wrong order",
        "head_merge",
        "jsbaan/transformer-from-scratch#6",
        "heads were reshaped without swapping heads and tokens first, which mixed tokens",
        _merged_wrongly,
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_of_our_own_attention_is_caught_and_the_right_rule_named_first(mutant: Mutant) -> None:
    before, after = check(mutant.healthy(0), fast=True), check(mutant.broken(0), fast=True)

    assert before.failed == [], str(before)
    assert after.failed[:1] == [mutant.rule], str(after)
