"""Attention, its gradients and statistics by the native kernels of ``regard-native``: from tensors to pointers.

The kernels read every layout whose last axis is contiguous; another one is copied. Whatever they cannot take is refused
here, before any pointer is passed. ``native_operator`` makes an operator of PyTorch of it, with gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from regard._errors import UnsupportedError
from regard.functional.impl.torch_private import constant_when_compiled

__all__ = [
    "Scoring",
    "backward",
    "default_scale",
    "empty_gradient",
    "empty_output",
    "forward",
    "instruction_set",
    "native_available",
    "native_module",
    "native_obstacle",
    "received",
    "row_sums",
]

_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_WIDEST = 1024
_PRODUCTS_OF_A_THREAD = 1 << 19  # multiplications for which waking another thread is worth it


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What shapes the scores of a call; masks of four axes.

    Attributes:
        scale: factor of the dot products.
        attn_mask: bool, four axes.
        attn_bias: float, four axes.
        causal: bottom-right causal.
        window: how many keys back a query sees, itself included, and as many ahead where it is not causal.
        alibi_slopes: (heads,) float32; a score gets -slope · |own position - key|.
        softcap: limit of the scores.
        positions: of the query rows among the keys, int64 (rows,) or (batch, rows); None for the usual ones, the last
            query at the last key.
        offsets: of packed sequences, int64 (sequences + 1,) of queries and of keys; the batch is then 1.
        dropout_p: probability to drop a weight.
        seed: of the dropout.
    """

    scale: float
    attn_mask: Tensor | None = None
    attn_bias: Tensor | None = None
    causal: bool = False
    softcap: float | None = None
    window: int | None = None
    alibi_slopes: Tensor | None = None
    positions: Tensor | None = None
    offsets: tuple[Tensor, Tensor] | None = None
    dropout_p: float = 0.0
    seed: int = 0

    @property
    def reported(self) -> dict[str, Any]:
        """What shapes the scores, by the names that listeners know."""
        names = ("attn_mask", "attn_bias", "causal", "window", "alibi_slopes", "scale", "softcap", "offsets")
        return {name: getattr(self, name) for name in names}

    def without_masks(self) -> "Scoring":
        """Return it without its tensors, which autograd keeps for themselves."""
        return replace(self, attn_mask=None, attn_bias=None)

    def with_masks(self, attn_mask: Tensor | None, attn_bias: Tensor | None) -> "Scoring":
        """Return it with these masks."""
        return replace(self, attn_mask=attn_mask, attn_bias=attn_bias)


@constant_when_compiled
def native_available() -> bool:
    """Return whether ``regard-native`` is installed."""
    return _library() is not None


def instruction_set() -> str:
    """Return the instruction set that the native kernels run on.

    Raises:
        UnsupportedError: ``regard-native`` is not installed.
    """
    chosen: str = native_module().instruction_set()
    return chosen


def native_obstacle(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,
    attn_bias: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
) -> str | None:
    """Return what the native kernels would need in order to take these tensors, or None."""
    tensors = [query, key] if value is None else [query, key, value]
    if not native_available():
        return "the package regard-native (pip install ./native)"
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return "tensors on the CPU"
    if query.dtype not in _DTYPES:
        return "float32, bfloat16 or float16"
    if attn_bias is not None and attn_bias.requires_grad:
        return "a bias without a gradient"
    if alibi_slopes is not None and alibi_slopes.requires_grad:
        return "slopes without a gradient"
    if max(tensor.shape[-1] for tensor in tensors) > _WIDEST:
        return f"heads at most {_WIDEST} wide"
    return None


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scoring: Scoring,
    statistics: Sequence[str] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp (batch, heads, rows) and statistics (statistics, batch, heads, rows) in float32."""
    output = empty_output(query, value)
    if key.shape[2] == 0:
        output.zero_()
    call = _Call(query, key, scoring, _rows(value), output)
    lse, found = call.run(statistics)
    return output, lse, found


def row_sums(
    query: Tensor,
    key: Tensor,
    scoring: Scoring,
    statistics: Sequence[str],
    *,
    keys: Tensor | None = None,
    value_norms: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return ``statistics`` and ``lse`` of query rows, each (batch, heads, rows); rows without keys are NaN.

    Args:
        query: rows that were picked already.
        key: all keys.
        scoring: what shapes the scores.
        statistics: names that ``regard_native.STATISTICS`` has.
        keys: (batch, kv_len) factor of each key, summed as ``mass``.
        value_norms: (batch, kv_heads, kv_len) length of each value, for the contributions.
    """
    call = _Call(query, key, scoring)
    call.point("key_weights", keys)
    call.point("value_norms", value_norms)
    lse, found = call.run(statistics)
    return {"lse": lse, **dict(zip(statistics, found.unbind(0), strict=True))}


def received(query: Tensor, key: Tensor, scoring: Scoring, lse: Tensor, row_weights: Tensor | None) -> Tensor:
    """Return the weights summed over the queries, (batch, heads, kv_len) in float32.

    Args:
        query: all queries.
        key: all keys.
        scoring: what shapes the scores.
        lse: (batch, heads, q_len) log-sum-exp of each row.
        row_weights: (batch, q_len) factor of each query, or None for 1.
    """
    call = _Call(query, key, scoring)
    found = torch.zeros(*query.shape[:2], key.shape[2])
    call.point("lse", lse)
    call.point("row_weights", row_weights)
    call.point("received", found)
    if found.numel():
        call.native.run("columns", call.structure)
    return found


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scoring: Scoring,
    *,
    output: Tensor,
    lse: Tensor,
    grad_output: Tensor,
    grad_lse: Tensor | None,
    grads: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, in ``grads`` or else in the layout of those."""
    assert scoring.positions is None, "the kernel takes the usual positions"
    call = _Call(query, key, scoring, _rows(value), _rows(output))
    grads = (empty_gradient(query), empty_gradient(key), empty_gradient(value)) if grads is None else grads
    call.point("lse", lse)
    call.point("grad_lse", grad_lse)
    call.tensor("grad_output", _rows(grad_output))
    for name, grad in zip(("grad_query", "grad_key", "grad_value"), grads, strict=True):
        call.tensor(name, grad)
    call.native.run("backward", call.structure)
    return grads


class _Call:
    """The structure that a kernel takes, and the tensors that it points to."""

    def __init__(
        self, query: Tensor, key: Tensor, scoring: Scoring, value: Tensor | None = None, output: Tensor | None = None
    ) -> None:
        self.native = native_module()
        self.shape = query.shape[:3]
        self._kept: list[Tensor] = []
        call = self.structure = self.native.Call()
        call.batch, call.heads, call.q_len, call.head_dim = query.shape
        call.kv_heads, call.kv_len = key.shape[1:3]
        call.value_dim = 0 if value is None else value.shape[3]
        products = query.numel() * call.kv_len * (1 if value is None else 2)
        call.threads = max(1, min(torch.get_num_threads(), products // _PRODUCTS_OF_A_THREAD))
        call.scale, call.softcap = scoring.scale, scoring.softcap or 0.0
        call.window_right = 0 if scoring.causal else -1
        if scoring.window is not None:
            call.window_left = scoring.window - 1
            call.window_right = 0 if scoring.causal else scoring.window - 1
        self.point("slopes", scoring.alibi_slopes)
        if scoring.positions is not None:
            self._positions(scoring.positions)
        if scoring.offsets is not None:
            self._kept += scoring.offsets
            call.num_sequences = len(scoring.offsets[0]) - 1
            call.q_offsets, call.kv_offsets = (offsets.data_ptr() for offsets in scoring.offsets)
        target = (*query.shape[:3], key.shape[2])
        self._side("mask", scoring.attn_mask, target)
        self._side("bias", scoring.attn_bias, target)
        if scoring.dropout_p:
            call.drop_below = min(round(scoring.dropout_p * 2**32), 2**32 - 1)
            call.drop_scale, call.seed = 1.0 / (1.0 - scoring.dropout_p), scoring.seed
        self.tensor("query", _rows(query))
        self.tensor("key", _rows(key))
        self.tensor("value", value)
        self.tensor("output", output)

    def run(self, statistics: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Run forward; return the log-sum-exp and the statistics."""
        call, names = self.structure, self.native.STATISTICS
        lse = torch.empty(self.shape)
        found = torch.empty(len(statistics), *self.shape)
        call.lse = lse.data_ptr()
        for name, values in zip(statistics, found.unbind(0), strict=True):
            call.statistics[names.index(name)] = values.data_ptr()
        if lse.numel():
            self.native.run("forward", call)
        return lse, found

    def tensor(self, name: str, tensor: Tensor | None) -> None:
        """Point the tensor ``name`` to rows whose last axis is contiguous."""
        if tensor is not None:
            self._kept.append(tensor)
            strides = tensor.stride()[:3]
            setattr(self.structure, name, self.native.Tensor(tensor.data_ptr(), _DTYPES[tensor.dtype], *strides))

    def point(self, name: str, tensor: Tensor | None) -> None:
        """Point ``name`` to an array of float32."""
        if tensor is not None:
            array = tensor.to(torch.float32).contiguous()
            self._kept.append(array)
            setattr(self.structure, name, array.data_ptr())

    def _positions(self, positions: Tensor) -> None:
        held = positions.contiguous()
        self._kept.append(held)
        self.structure.positions = held.data_ptr()
        self.structure.position_batch = 0 if held.ndim == 1 else held.shape[1]
        self.structure.position_row = 1

    def _side(self, name: str, side: Tensor | None, target: tuple[int, ...]) -> None:
        if side is None:
            return
        if side.dtype != torch.bool and side.dtype not in _DTYPES:
            side = side.to(torch.float32)
        expanded = side.expand(target)
        self._kept.append(expanded)
        dtype = _DTYPES.get(side.dtype, 0)
        setattr(self.structure, name, self.native.Side(expanded.data_ptr(), dtype, *expanded.stride()))


def _rows(tensor: Tensor) -> Tensor:
    """Return ``tensor`` with a contiguous last axis: itself, or a copy."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def empty_output(query: Tensor, value: Tensor) -> Tensor:
    """Return an empty output whose heads lie in memory as those of the queries do, so that they are merged for free."""
    batch, heads, q_len, _ = query.shape
    if query.stride(1) < query.stride(2):
        return query.new_empty(batch, q_len, heads, value.shape[3]).transpose(1, 2)
    return query.new_empty(batch, heads, q_len, value.shape[3])


def empty_gradient(tensor: Tensor) -> Tensor:
    """Return an empty tensor for the gradient, in the order of ``tensor`` where that is dense and its rows are."""
    empty = torch.empty_like(tensor)
    return empty if empty.stride(-1) == 1 or tensor.shape[-1] == 1 else torch.empty(tensor.shape, dtype=tensor.dtype)


def native_module() -> Any:
    """Return the package, or raise ``UnsupportedError``."""
    found = _library()
    if found is None:
        raise UnsupportedError(
            "The native kernels need the package regard-native, which is not installed; "
            "install it with `pip install ./native` or use impl='sdpa' or impl='chunked'."
        )
    return found


@cache
def _library() -> ModuleType | None:
    try:
        import regard_native
    except ImportError:
        return None
    return regard_native


def default_scale(query: Tensor, scale: float | None) -> float:
    """Return ``scale``, 1 / √head_dim by default."""
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
