"""The native kernels as operators of PyTorch, so that gradients, checkpoints and ``torch.compile`` know them.

Importing this file registers the operators ``regard::native_attention`` and ``regard::native_attention_backward``; it
is imported when one of them is first called and not before.
"""

from typing import Any

import torch
from torch import Tensor

from regard.functional.impl.native import Scoring
from regard.functional.impl.native_attention import run_backward, run_forward

__all__ = ["native_attention"]

_MASKING = (
    "Tensor? attn_mask, Tensor? attn_bias, bool causal, float scale, float softcap, float dropout_p, Tensor? seed"
)
_FORWARD = f"(Tensor query, Tensor key, Tensor value, {_MASKING}, str[] statistics) -> (Tensor, Tensor, Tensor)"
_BACKWARD = (
    f"(Tensor query, Tensor key, Tensor value, {_MASKING}, "
    "Tensor output, Tensor lse, Tensor grad_output, Tensor? grad_lse) -> (Tensor, Tensor, Tensor)"
)
_INPUTS = 11


@torch.library.custom_op("regard::native_attention", mutates_args=(), device_types="cpu", schema=_FORWARD)
def native_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    scale: float,
    softcap: float,
    dropout_p: float,
    seed: Tensor | None,
    statistics: list[str],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp and statistics; ``softcap`` is 0 for none."""
    scoring = _scoring(attn_mask, attn_bias, causal, scale, softcap, dropout_p, seed)
    return run_forward(query, key, value, scoring, statistics)


@native_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistics = others[-1]
    rows = query.shape[:3]
    output, lse = query.new_empty(*rows, value.shape[3]), query.new_empty(rows, dtype=torch.float32)
    return output, lse, lse.new_empty((len(statistics), *rows))


@torch.library.custom_op("regard::native_attention_backward", mutates_args=(), device_types="cpu", schema=_BACKWARD)
def _native_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    scale: float,
    softcap: float,
    dropout_p: float,
    seed: Tensor | None,
    output: Tensor,
    lse: Tensor,
    grad_output: Tensor,
    grad_lse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    scoring = _scoring(attn_mask, attn_bias, causal, scale, softcap, dropout_p, seed)
    return run_backward(
        query, key, value, scoring, output=output, lse=lse, grad_output=grad_output, grad_lse=grad_lse
    )  # fmt: skip


@_native_backward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value, attn_mask, attn_bias, *options, seed, _ = inputs
    ctx.save_for_backward(query, key, value, attn_mask, attn_bias, seed, output[0], output[1])
    ctx.options = options
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    query, key, value, attn_mask, attn_bias, seed, output, lse = ctx.saved_tensors
    if grad_output is None and grad_lse is None:
        return (None,) * _INPUTS
    grads = _native_backward(
        query, key, value, attn_mask, attn_bias, *ctx.options, seed, output, lse,
        torch.zeros_like(output) if grad_output is None else grad_output, grad_lse,
    )  # fmt: skip
    return (*grads, *(None,) * (_INPUTS - 3))


torch.library.register_autograd(native_attention, _differentiate, setup_context=_remember)


def _scoring(
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    scale: float,
    softcap: float,
    dropout_p: float,
    seed: Tensor | None,
) -> Scoring:
    return Scoring(
        scale=scale,
        attn_mask=attn_mask,
        attn_bias=attn_bias,
        causal=causal,
        softcap=softcap or None,
        dropout_p=dropout_p,
        seed=0 if seed is None else int(seed),
    )
