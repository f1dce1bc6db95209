"""The native kernels as operators of PyTorch, so that gradients, checkpoints and ``torch.compile`` know them.

Importing this file registers the operators ``regard::native_attention`` and ``regard::native_attention_backward``; it
is imported when one of them is first called and not before.
"""

from typing import Any

import torch
from torch import Tensor

from regard.functional.impl.native import Scoring, empty_gradient, empty_output
from regard.functional.impl.native_attention import run_backward, run_forward
from regard.functional.offsets import check_sequences, checked_offsets

__all__ = ["native_attention"]

_TENSORS = (
    "Tensor query, Tensor key, Tensor value, Tensor? attn_mask, Tensor? attn_bias, Tensor? alibi_slopes, "
    "Tensor? positions, Tensor? q_offsets, Tensor? kv_offsets, Tensor? seed"
)
_NUM_TENSORS = 10
_OPTIONS = "bool causal, SymInt? window, float scale, float softcap, float dropout_p"
_FORWARD = f"({_TENSORS}, {_OPTIONS}, str[] statistics) -> (Tensor, Tensor, Tensor)"
_BACKWARD = (
    f"({_TENSORS}, {_OPTIONS}, Tensor output, Tensor lse, Tensor grad_output, Tensor? grad_lse) "
    "-> (Tensor, Tensor, Tensor)"
)
_NUM_INPUTS = _NUM_TENSORS + 6


@torch.library.custom_op("regard::native_attention", mutates_args=(), device_types="cpu", schema=_FORWARD)
def native_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    alibi_slopes: Tensor | None,
    positions: Tensor | None,
    q_offsets: Tensor | None,
    kv_offsets: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    window: int | None,
    scale: float,
    softcap: float,
    dropout_p: float,
    statistics: list[str],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp and statistics; ``softcap`` is 0 for none."""
    scoring = _scoring(
        query, key, attn_mask, attn_bias, alibi_slopes, positions, q_offsets, kv_offsets, seed,
        causal, window, scale, softcap, dropout_p,
    )  # fmt: skip
    return run_forward(query, key, value, scoring, statistics)


@native_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = others[-1]
    lse = query.new_empty(query.shape[:3], dtype=torch.float32)
    return empty_output(query, value), lse, lse.new_empty((len(statistics), *lse.shape))


@torch.library.custom_op("regard::native_attention_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD)
def _native_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    alibi_slopes: Tensor | None,
    positions: Tensor | None,
    q_offsets: Tensor | None,
    kv_offsets: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    window: int | None,
    scale: float,
    softcap: float,
    dropout_p: float,
    output: Tensor,
    lse: Tensor,
    grad_output: Tensor,
    grad_lse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    scoring = _scoring(
        query, key, attn_mask, attn_bias, alibi_slopes, positions, q_offsets, kv_offsets, seed,
        causal, window, scale, softcap, dropout_p,
    )  # fmt: skip
    return run_backward(
        query, key, value, scoring, output=output, lse=lse, grad_output=grad_output, grad_lse=grad_lse
    )  # fmt: skip


@_native_backward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return empty_gradient(query), empty_gradient(key), empty_gradient(value)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:_NUM_TENSORS], output[0], output[1])
    ctx.options = inputs[_NUM_TENSORS:-1]
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    *tensors, output, lse = ctx.saved_tensors
    if grad_output is None and grad_lse is None:
        return (None,) * _NUM_INPUTS
    grads = _native_backward(
        *tensors, *ctx.options, output, lse,
        torch.zeros_like(output) if grad_output is None else grad_output, grad_lse,
    )  # fmt: skip
    return (*grads, *(None,) * (_NUM_INPUTS - 3))


torch.library.register_autograd(native_attention, _differentiate, setup_context=_remember)


def _scoring(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    alibi_slopes: Tensor | None,
    positions: Tensor | None,
    q_offsets: Tensor | None,
    kv_offsets: Tensor | None,
    seed: Tensor | None,
    causal: bool,
    window: int | None,
    scale: float,
    softcap: float,
    dropout_p: float,
) -> Scoring:
    """Translate; numbers that only are there when the operator runs are checked here, before a kernel reads by them."""
    offsets = None
    if q_offsets is not None:
        assert kv_offsets is not None, "both are given, or neither"
        offsets = (
            checked_offsets("offsets", q_offsets, query.shape[2]),
            checked_offsets("kv_offsets", kv_offsets, key.shape[2]),
        )
        check_sequences(*offsets, causal=causal, window=window)
    return Scoring(
        scale=scale,
        attn_mask=attn_mask,
        attn_bias=attn_bias,
        causal=causal,
        window=window,
        alibi_slopes=alibi_slopes,
        softcap=softcap or None,
        positions=positions,
        offsets=offsets,
        dropout_p=dropout_p,
        seed=0 if seed is None else int(seed),
    )
