"""Attention by a pattern on the native kernels as an operator of PyTorch, so that ``torch.compile`` need not stop.

An operator takes tensors and numbers; the pattern comes by its number. Importing this file registers the operators
``regard::pattern_attention`` and ``regard::pattern_attention_backward``; compiled code alone imports it.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from regard.functional import taps
from regard.functional.impl.native import Scoring, empty_gradient, empty_output
from regard.functional.impl.native_blocks import run_blocks, run_blocks_backward
from regard.functional.patterns.pattern import Pattern, limited, numbered

__all__ = ["pattern_attention"]

_TENSORS = (
    "Tensor query, Tensor key, Tensor value, Tensor? attn_mask, Tensor? attn_bias, Tensor? alibi_slopes, Tensor? seed"
)
_OPTIONS = "SymInt pattern, bool causal, SymInt? window, float scale, float softcap, float dropout_p"
_NUM_TENSORS, _NUM_SIDES = 7, 6
_NUM_INPUTS = _NUM_TENSORS + 6

_MOST_HELD = 32
_HELD: "OrderedDict[int, Pattern]" = OrderedDict()
"""The patterns of the last calls: one that was made for a batch may be forgotten by all others before its gradients."""


@torch.library.custom_op(
    "regard::pattern_attention", mutates_args=(), device_types="cpu",
    schema=f"({_TENSORS}, {_OPTIONS}) -> (Tensor, Tensor)",
)  # fmt: skip
def pattern_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    alibi_slopes: Tensor | None,
    seed: Tensor | None,
    pattern: int,
    causal: bool,
    window: int | None,
    scale: float,
    softcap: float,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp; ``pattern`` is a number, and ``softcap`` is 0 for none."""
    joined, scoring = _arguments(seed, pattern, causal, window, scale, softcap, dropout_p)
    output, lse = run_blocks((query, key, value, attn_mask, attn_bias, alibi_slopes), joined, scoring)
    if taps.LISTENERS:
        heard: dict[str, Any] = {
            "query": query, "key": key, "value": value, "attn_mask": attn_mask, "attn_bias": attn_bias,
            "causal": causal, "window": window, "pattern": numbered(pattern), "alibi_slopes": alibi_slopes,
            "scale": scale, "softcap": softcap or None, "dropout_p": dropout_p,
        }  # fmt: skip
        taps.report(taps.NATIVE_BLOCKS, heard, (output, lse))
    return output, lse


@pattern_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return empty_output(query, value), query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "regard::pattern_attention_backward", mutates_args=(), device_types="cpu",
    schema=f"({_TENSORS}, {_OPTIONS}, Tensor output, Tensor lse, Tensor grad_output, Tensor grad_lse) "
    "-> (Tensor, Tensor, Tensor)",
)  # fmt: skip
def _backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    sides, options, results = arguments[:_NUM_SIDES], arguments[_NUM_SIDES:_NUM_INPUTS], arguments[_NUM_INPUTS:]
    return run_blocks_backward(sides, *_arguments(*options), *results)


@_backward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_gradient(query), key.new_empty(key.shape), value.new_empty(value.shape)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:_NUM_TENSORS], *output)
    ctx.options = inputs[_NUM_TENSORS:]
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    *tensors, output, lse = ctx.saved_tensors
    if grad_output is None and grad_lse is None:
        return (None,) * _NUM_INPUTS
    grads = _backward(
        *tensors, *ctx.options, output, lse,
        torch.zeros_like(output) if grad_output is None else grad_output,
        torch.zeros_like(lse) if grad_lse is None else grad_lse,
    )  # fmt: skip
    return (*grads, *(None,) * (_NUM_INPUTS - 3))


torch.library.register_autograd(pattern_attention, _differentiate, setup_context=_remember)


def _arguments(
    seed: Tensor | None, pattern: int, causal: bool, window: int | None, scale: float, softcap: float, dropout_p: float
) -> tuple[Pattern, Scoring]:
    found = _HELD[pattern] if pattern in _HELD else numbered(pattern)
    _HELD[pattern] = found
    _HELD.move_to_end(pattern)
    if len(_HELD) > _MOST_HELD:
        _HELD.popitem(last=False)
    number = 0 if seed is None else int(seed)
    scoring = Scoring(scale=scale, softcap=softcap or None, dropout_p=dropout_p, seed=number)
    return limited(found, causal, window), scoring
