"""Attention on a GPU by this project's own Triton kernels: exact, with log-sum-exp and row statistics from one pass.

PyTorch's fused kernels give neither softcap nor statistics, and no log-sum-exp for every mask. These kernels have all
three, in memory linear in the lengths. Triton is imported by the first call and not by this file.

References:
    Dao, FlashAttention-2: faster attention with better parallelism and work partitioning, arXiv:2307.08691,
    algorithms 1 and 2; online softmax: Milakov and Gimelshein, arXiv:1805.02867.
"""

import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard._errors import ArgumentError, UnsupportedError
from regard.functional.impl.blocks import LOG2E

__all__ = ["STATISTICS", "triton_obstacle", "triton_with_lse"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_WIDEST = 256  # widest head of which a block of queries and one of keys fit into shared memory


def triton_with_lse(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    statistics: Sequence[str] = (),
) -> tuple[
    Float[Tensor, "batch heads q_len value_dim"],
    Float[Tensor, "batch heads q_len"],
    dict[str, Float[Tensor, "batch heads q_len"]],
]:
    """Return attention, the log-sum-exp of each row's scores, and statistics of the rows.

    Output and log-sum-exp are differentiable once with respect to query, key and value; backward computes the scores
    again and is deterministic. Statistics are not differentiable and cost row sums in the same pass, no second one.

    Args:
        query: as for ``attention``, on a GPU, in float16, bfloat16 or float32; any strides.
        key: likewise; ``heads`` must be a multiple of ``kv_heads``.
        value: likewise; its width may differ from ``head_dim``.
        attn_mask: bool, True = may attend, broadcasts to (batch, heads, q_len, kv_len) and is never expanded.
        attn_bias: float, likewise; it must not need a gradient.
        causal: as for ``attention``, aligned at the bottom right.
        window: as for ``attention``; blocks outside are not met.
        alibi_slopes: as for ``attention``; they must not need a gradient.
        scale: factor of the dot products, 1 / √head_dim by default.
        softcap: limit of the absolute scores before bias and mask, no limit by default.
        dropout_p: probability to drop a weight, drawn on the CPU's generator as for the native kernels: one seed drops
            the same weights there and here. Log-sum-exp and statistics are those of all weights.
        statistics: names out of ``STATISTICS``.

    Returns:
        The output in the inputs' dtype, 0 for a row without keys; the log-sum-exp, float32 natural logarithm, -inf for
        such a row; and by name the statistics as ``ROW_STATISTICS`` defines them, float32, NaN for such a row.

    Raises:
        ArgumentError: a name that is no statistic of these kernels.
        UnsupportedError: what ``triton_obstacle`` finds.

    References:
        Dao, FlashAttention-2, arXiv:2307.08691, algorithms 1 and 2.
    """
    unknown = [name for name in statistics if name not in STATISTICS]
    if unknown:
        raise ArgumentError(f"statistics must be names out of {', '.join(STATISTICS)}; got {unknown}.")
    obstacle = triton_obstacle(query, key, value, attn_bias=attn_bias, alibi_slopes=alibi_slopes)
    if obstacle is not None:
        raise UnsupportedError(
            f"The Triton kernels need {obstacle}; got query, key and value of {query.dtype} on {query.device}, "
            f'{query.shape[3]} and {value.shape[3]} wide: use impl="chunked" or "auto".'
        )
    dropout = Dropout.drawn(dropout_p) if dropout_p > 0 else Dropout()
    options = _Options(causal, window, scale, softcap, dropout, tuple(dict.fromkeys(statistics)))
    sides = attn_mask, attn_bias, alibi_slopes
    with torch.autocast(query.device.type, enabled=False):
        output, lse, *found = _Triton.apply(query, key, value, *sides, options)  # type: ignore[no-untyped-call]
    return output, lse, dict(zip(options.statistics, found, strict=True))


def triton_obstacle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_bias: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
) -> str | None:
    """Return what ``triton_with_lse`` would need in order to run this call, or None where it can."""
    if importlib.util.find_spec("triton") is None:
        return 'triton, which pip install "regard[triton]" brings'
    devices = {tensor.device for tensor in (query, key, value)}
    if len(devices) > 1 or not (query.is_cuda or _interpreted()):
        return "all tensors on one CUDA device (TRITON_INTERPRET=1 before Python starts runs it on a CPU, slowly)"
    if query.is_cuda and torch.cuda.get_device_capability(query.device) < (8, 0):
        return "a GPU of compute capability 8.0 or above"
    if any(tensor.dtype not in _DTYPES for tensor in (query, key, value)):
        return "float16, bfloat16 or float32"
    if max(query.shape[3], value.shape[3]) > _WIDEST:
        return f"heads at most {_WIDEST} wide"
    for name, side in {"attn_bias": attn_bias, "alibi_slopes": alibi_slopes}.items():
        if side is not None and side.requires_grad and torch.is_grad_enabled():
            return f"{name} without a gradient, which they do not compute"
    return None


@dataclass(frozen=True)
class Tiles:
    """How a kernel is cut: queries and keys of one block, warps that share it, blocks that are loaded ahead."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int


# By kernel, bytes of a number and width. Compiled for compute capability 8.0 and 9.0 these hardly spill a register in a
# plain call and fit the shared memory of consumer cards with everything asked for; their times are not compared yet.
_TILES = {
    ("forward", 2): {64: Tiles(128, 64, 8, 2), 128: Tiles(128, 64, 8, 2), 256: Tiles(64, 32, 8, 2)},
    ("forward", 4): {64: Tiles(32, 32, 4, 1), 128: Tiles(32, 16, 4, 1), 256: Tiles(16, 16, 4, 1)},
    ("backward_queries", 2): {64: Tiles(128, 64, 8, 2), 128: Tiles(64, 64, 8, 2), 256: Tiles(32, 32, 4, 2)},
    ("backward_queries", 4): {64: Tiles(32, 32, 4, 1), 128: Tiles(32, 16, 4, 1), 256: Tiles(16, 16, 4, 1)},
    ("backward_keys", 2): {64: Tiles(32, 128, 8, 2), 128: Tiles(32, 64, 8, 2), 256: Tiles(32, 32, 8, 2)},
    ("backward_keys", 4): {64: Tiles(32, 16, 4, 1), 128: Tiles(16, 32, 8, 1), 256: Tiles(16, 16, 8, 1)},
}


def tiles(kernel: str, width: int, dtype: torch.dtype) -> Tiles:
    """Return how ``kernel`` is cut for heads that are padded to ``width``, a power of two."""
    return _TILES[kernel, dtype.itemsize][max(64, width)]


class Heads(NamedTuple):
    """A tensor (batch, heads, len, width) as the kernels take it, or none: of that Triton 3.6 can ask only ``base``."""

    base: Tensor | None = None
    strides: tuple[int | None, ...] = (None, None, None, None)


class Shape(NamedTuple):
    """Sizes of a call; ``group`` query heads share a key head, and ``window`` is as for ``attention``."""

    heads: int
    group: int
    q_len: int
    kv_len: int
    window: int | None


class Scaling(NamedTuple):
    """What turns products into scores of base 2, and gradients of scores into those of queries and keys."""

    factor: float
    softcap: float | None
    scale: float


class Dropout(NamedTuple):
    """A weight is dropped whose random number of 32 bits lies below ``below``; others are multiplied by ``scale``."""

    seed: int | None = None
    below: int | None = None
    scale: float | None = None

    @classmethod
    def drawn(cls, dropout_p: float) -> "Dropout":
        """Draw the seed of a call, from the generator that the native kernels draw theirs from."""
        below = min(round(dropout_p * 2**32), 2**32 - 1)
        return cls(int(torch.randint(1 << 62, ())), below, 1.0 / (1.0 - dropout_p))


class Statistics(NamedTuple):
    """Where each statistic is to be written; None for one that is not wanted."""

    entropy: Tensor | None = None
    collision: Tensor | None = None
    max_weight: Tensor | None = None
    max_score: Tensor | None = None
    min_score: Tensor | None = None
    score_spread: Tensor | None = None
    first_mass: Tensor | None = None
    self_mass: Tensor | None = None
    previous_mass: Tensor | None = None
    distance: Tensor | None = None
    expected_position: Tensor | None = None
    contribution: Tensor | None = None
    first_contribution: Tensor | None = None


STATISTICS = Statistics._fields
"""Names of the row statistics that the forward kernel takes along."""


@dataclass(frozen=True)
class _Options:
    causal: bool
    window: int | None
    scale: float | None
    softcap: float | None
    dropout: Dropout
    statistics: tuple[str, ...]


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        alibi_slopes: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        tensors = query, key, value, attn_mask, attn_bias, alibi_slopes
        output, lse, statistics = _Call(*tensors, options).forward()
        ctx.save_for_backward(*tensors, output, lse)
        ctx.options = options
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*statistics)
        return output, lse, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_lse: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        query, key, value, attn_mask, attn_bias, alibi_slopes, output, lse = ctx.saved_tensors
        call = _Call(query, key, value, attn_mask, attn_bias, alibi_slopes, ctx.options)
        grad_output = torch.zeros_like(output) if grad_output is None else grad_output
        inner = call.inner(output, grad_output, grad_lse, lse)
        grad_query = call.grad_query(grad_output, lse, inner) if ctx.needs_input_grad[0] else None
        grad_key, grad_value = None, None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_key, grad_value = call.grad_key_value(grad_output, lse, inner)
        return grad_query, grad_key, grad_value, None, None, None, None


class _Call:
    """The kernels of one call and what all of them are given."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        alibi_slopes: Tensor | None,
        options: _Options,
    ) -> None:
        batch, heads, q_len, head_dim = query.shape
        kv_heads, kv_len = key.shape[1:3]
        square = (batch, heads, q_len, kv_len)
        scale = 1.0 / math.sqrt(head_dim) if options.scale is None else options.scale
        softcap = options.softcap
        self._query, self._key, self._value = query, key, value
        self._statistics = options.statistics
        self._mask = Heads() if attn_mask is None else _side(attn_mask.view(torch.uint8), square)
        self._bias = Heads() if attn_bias is None else _side(attn_bias, square)
        self._slopes = None if alibi_slopes is None else alibi_slopes.to(torch.float32).contiguous()
        self._shape = Shape(heads, heads // kv_heads, q_len, kv_len, options.window)
        # Scores before the softcap are divided by it, and what comes out is multiplied by it and by log2 e.
        self._scaling = Scaling(
            scale * LOG2E if softcap is None else scale / softcap, None if softcap is None else softcap * LOG2E, scale
        )
        self._causal, self._dropout = options.causal, options.dropout

    def forward(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return output, lse and the wanted statistics."""
        output = self._query.new_empty(*self._query.shape[:3], self._value.shape[3])
        lse = self._numbers_of_rows()
        found = {name: self._numbers_of_rows() for name in self._statistics}
        self._run("forward", output, lse, Statistics(**found))
        return output, lse, list(found.values())

    def inner(self, output: Tensor, grad_output: Tensor, grad_lse: Tensor | None, lse: Tensor) -> Tensor:
        """Return Σ output · gradient of output - gradient of lse of each row, which its scores' gradients share."""
        inner = self._numbers_of_rows()
        value_dim = output.shape[3]
        block_q = min(32, _power_of_two(self._shape.q_len))
        self._start(
            "backward_inner",
            -(-self._shape.q_len // block_q) * self._query.shape[0] * self._shape.heads,
            (_heads(output), _heads(grad_output), None if grad_lse is None else grad_lse.contiguous(), lse, inner),
            {"value_dim": value_dim, "padded_value": _power_of_two(value_dim), "block_q": block_q},
        )
        return inner

    def grad_query(self, grad_output: Tensor, lse: Tensor, inner: Tensor) -> Tensor:
        """Return the gradient of the queries."""
        found = torch.empty_like(self._query, memory_format=torch.contiguous_format)
        self._run("backward_queries", _heads(grad_output), lse, inner, found)
        return found

    def grad_key_value(self, grad_output: Tensor, lse: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of keys and values."""
        grad_key = torch.empty_like(self._key, memory_format=torch.contiguous_format)
        grad_value = torch.empty_like(self._value, memory_format=torch.contiguous_format)
        self._run("backward_keys", _heads(grad_output), lse, inner, grad_key, grad_value)
        return grad_key, grad_value

    def _numbers_of_rows(self) -> Tensor:
        return self._query.new_empty(self._query.shape[:3], dtype=torch.float32)

    def _run(self, kernel: str, *tensors: Tensor | Heads | Statistics) -> None:
        """Run a kernel that walks over the scores."""
        head_dim, value_dim = self._query.shape[3], self._value.shape[3]
        padded_head, padded_value = _power_of_two(head_dim), _power_of_two(value_dim)
        cut = tiles(kernel, max(padded_head, padded_value), self._query.dtype)
        block_q = min(cut.block_q, _power_of_two(self._shape.q_len))
        block_k = min(cut.block_k, _power_of_two(self._shape.kv_len))
        if kernel == "backward_keys":
            programs = -(-self._shape.kv_len // block_k) * self._key.shape[0] * self._key.shape[1]
        else:
            programs = -(-self._shape.q_len // block_q) * self._query.shape[0] * self._query.shape[1]
        given = (_heads(self._query), _heads(self._key), _heads(self._value), self._mask, self._bias, self._slopes)
        self._start(kernel, programs, (*given, *tensors), {
            "scaling": self._scaling, "dropout": self._dropout, "head_dim": head_dim, "value_dim": value_dim,
            "padded_head": padded_head, "padded_value": padded_value, "block_q": block_q, "block_k": block_k,
            "causal": self._causal, "upcast": _interpreted(),
            "num_warps": cut.num_warps, "num_stages": cut.num_stages,
        })  # fmt: skip

    def _start(self, kernel: str, programs: int, tensors: tuple[Any, ...], options: dict[str, Any]) -> None:
        if programs == 0:  # which CUDA would not start
            return
        # Triton is imported here, by the first call, so that whoever does not use it need not have it.
        from regard.functional.impl import triton_kernels

        with torch.cuda.device_of(self._query):
            getattr(triton_kernels, kernel)[(programs,)](*tensors, shape=self._shape, enable_fp_fusion=True, **options)


def _heads(tensor: Tensor) -> Heads:
    return Heads(tensor, tensor.stride())


def _side(side: Tensor, square: tuple[int, int, int, int]) -> Heads:
    """Take a mask or bias as it is, with a row stride of None where all rows are alike: then only one is loaded."""
    expanded = side.expand(square)
    batch, heads, rows, keys = expanded.stride()
    return Heads(expanded, (batch, heads, rows or None, keys))


def _power_of_two(size: int) -> int:
    """Return the smallest power of two that holds ``size``, at least 16, the smallest side of a product of tiles."""
    return max(16, 1 << max(0, size - 1).bit_length())


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
