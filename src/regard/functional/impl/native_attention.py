"""Attention by the native kernels, with gradients: called directly, or as an operator of PyTorch.

It is an operator in compiled code, and where a dispatch mode listens: to whoever counts, traces or plans.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard._errors import UnsupportedError
from regard.functional import taps
from regard.functional.definitions import VALUE_STATISTICS
from regard.functional.impl.native import Scoring, backward, default_scale, forward, native_obstacle
from regard.functional.impl.torch_private import modes_are_on

__all__ = ["native_with_lse"]


def native_with_lse(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    offsets: tuple[Tensor, Tensor] | None = None,
    positions: Tensor | None = None,
    statistics: Sequence[str] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Return attention, the log-sum-exp of each row's scores, both differentiable, and statistics of each row.

    The log-sum-exp is float32, -inf for a row without keys. ``statistics`` are names that ``regard_native.STATISTICS``
    has; they are returned as float32 (statistics, batch, heads, q_len), NaN for a row without keys.

    ``window``, ``alibi_slopes``, ``offsets`` and ``positions`` are those of ``Scoring``. A call with ``positions``
    has no gradients and is not reported to listeners, who have no word for them.

    Raises:
        UnsupportedError: what the kernels cannot take, such as another device or float64, or gradients with
            ``positions``.
    """
    obstacle = native_obstacle(query, key, value, attn_bias, alibi_slopes)
    if obstacle is not None:
        raise UnsupportedError(f'impl="native" needs {obstacle}; use impl="auto", "sdpa" or "chunked".')
    trains = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
    if positions is not None and trains:
        raise UnsupportedError(
            "The native kernels need the usual positions in order to give gradients, got others; use torch.no_grad()."
        )
    scale = default_scale(query, scale)
    seed = torch.randint(1 << 62, ()) if dropout_p > 0 else None
    if torch.compiler.is_compiling() or modes_are_on():
        from regard.functional.impl.native_operator import native_attention

        q_offsets, kv_offsets = (None, None) if offsets is None else offsets
        found: tuple[Tensor, Tensor, Tensor] = native_attention(
            query, key, value, attn_mask, attn_bias, alibi_slopes, positions, q_offsets, kv_offsets, seed,
            causal, window, scale, softcap or 0.0, dropout_p, list(statistics),
        )  # fmt: skip
        return found
    scoring = Scoring(
        scale=scale,
        attn_mask=attn_mask,
        attn_bias=attn_bias,
        causal=causal,
        softcap=softcap,
        window=window,
        alibi_slopes=alibi_slopes,
        offsets=offsets,
        positions=positions,
        dropout_p=dropout_p,
        seed=0 if seed is None else int(seed),
    )
    if trains:
        output, lse, taken = _Native.apply(query, key, value, scoring, tuple(statistics))  # type: ignore[no-untyped-call]
        return output, lse, taken
    return run_forward(query, key, value, scoring, statistics)


def run_forward(
    query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, statistics: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel and report it."""
    reports = bool(taps.LISTENERS) and scoring.positions is None
    # Contributions need the lengths of the values, which this kernel does not take by itself.
    wanted = [name for name in taps.wanted() if name not in VALUE_STATISTICS] if reports else []
    names = (*statistics, *wanted)
    output, lse, taken = forward(query, key, value, scoring, names)
    if reports:
        heard: dict[str, Any] = {"statistics": dict(zip(names, taken.unbind(0), strict=True)), **scoring.reported}
        taps.report(taps.NATIVE, {"query": query, "key": key, "value": value, **heard}, (output, lse))
    return output, lse, taken[: len(statistics)]


def run_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scoring: Scoring,
    *,
    output: Tensor,
    lse: Tensor,
    grad_output: Tensor,
    grad_lse: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel of the backward pass and report it."""
    grads = backward(
        query, key, value, scoring, output=output, lse=lse, grad_output=grad_output, grad_lse=grad_lse
    )  # fmt: skip
    if taps.LISTENERS:
        taps.report(taps.NATIVE_BACKWARD, {"out": output, "grad_out": grad_output}, grads)
    return grads


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring, statistics: tuple[str, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        output, lse, taken = run_forward(query, key, value, scoring, statistics)
        ctx.save_for_backward(query, key, value, scoring.attn_mask, scoring.attn_bias, output, lse)
        ctx.scoring = scoring.without_masks()
        ctx.mark_non_differentiable(taken)
        ctx.set_materialize_grads(False)
        return output, lse, taken

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        query, key, value, attn_mask, attn_bias, output, lse = ctx.saved_tensors
        if grad_output is None and grad_lse is None:
            return (None,) * 5
        grads = run_backward(
            query,
            key,
            value,
            ctx.scoring.with_masks(attn_mask, attn_bias),
            output=output,
            lse=lse,
            grad_output=torch.zeros_like(output) if grad_output is None else grad_output,
            grad_lse=grad_lse,
        )
        return (*grads, None, None)
