"""ONNX's own test cases of its ``Attention`` operator, read into the words of ``regard.attention``.

The cases come with the package ``onnx``, which makes them from its reference implementation. Where ONNX counts the
positions of queries otherwise than regard does, the same call can also be spelled out in one keep mask.

References:
    https://onnx.ai/onnx/operators/onnx__Attention.html
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.case.node as onnx_cases
import torch
from onnx.helper import get_attribute_value
from torch import Tensor

from regard.functional import combine, sliding_window_mask

__all__ = ["OnnxCase", "onnx_attention_cases"]

_INPUTS = ("query", "key", "value", "attn_mask", "past_key", "past_value", "num_valid_keys")
_OUTPUTS = ("output", "present_key", "present_value", "scores")


def onnx_attention_cases() -> list["OnnxCase"]:
    """Return every case of the operator; the copies that ONNX expands into other operators are left out.

    Modules of cases register what they hold when they are imported. Those that are not about attention take seconds,
    so they are left alone; ``test_onnx_vectors`` checks that no case is among them.
    """
    for module in pkgutil.iter_modules(onnx_cases.__path__):
        if "attention" in module.name:
            importlib.import_module(f"{onnx_cases.__name__}.{module.name}")
    nodes = [(case, case.model.graph.node[0]) for case in onnx_cases._NodeTestCases]
    return [
        OnnxCase.of(case.name.removeprefix("test_attention_"), node, *case.data_sets[0])
        for case, node in nodes
        if node.op_type == "Attention"
    ]


@dataclass(frozen=True, kw_only=True)
class OnnxCase:
    """One call of ONNX's operator, in tensors of four axes.

    Attributes:
        name: ONNX's, shortened.
        query: (batch, heads, q_len, head_dim).
        key: (batch, kv_heads, kv_len, head_dim), what was cached before it included.
        value: (batch, kv_heads, kv_len, value_dim), likewise.
        side: mask (bool, True = may attend) or bias over (batch, heads, q_len, kv_len), or None.
        num_valid_keys: (batch,) keys of each sequence that are no padding, or None.
        num_cached: keys that were cached before, or None.
        causal: whether a query sees no later key.
        left: how many keys before its own position a query sees, -1 for all.
        right: how many keys after its own position a query sees, -1 for all.
        scale: factor of the dot products, or None.
        softcap: limit of the scores, or None.
        scores_mode: what ONNX returns as scores: 0 the products, 1 after the softcap, 2 after the mask, 3 the weights.
        expected: what ONNX returns, by the names output, present_key, present_value and scores.
    """

    name: str
    query: Tensor
    key: Tensor
    value: Tensor
    side: Tensor | None
    num_valid_keys: Tensor | None
    num_cached: int | None
    causal: bool
    left: int
    right: int
    scale: float | None
    softcap: float | None
    scores_mode: int
    expected: dict[str, Tensor]

    @classmethod
    def of(cls, name: str, node: onnx.NodeProto, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> "OnnxCase":
        """Read a node, the values of the inputs and outputs that it names, in their order."""
        said = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
        given = dict(_named(_INPUTS, node.input, inputs))
        expected = dict(_named(_OUTPUTS, node.output, outputs))
        heads, kv_heads = said.get("q_num_heads"), said.get("kv_num_heads")
        query, key, value = (
            _split(given[part], number) for part, number in zip(_INPUTS[:3], (heads, kv_heads, kv_heads), strict=True)
        )
        expected["output"] = _split(expected["output"], heads)
        past = given.get("past_key")
        if past is not None:
            key, value = torch.cat([past, key], 2), torch.cat([given["past_value"], value], 2)
        return cls(
            name=name,
            query=query,
            key=key,
            value=value,
            side=_widened(given.get("attn_mask"), key.shape[2]),
            num_valid_keys=given.get("num_valid_keys"),
            num_cached=None if past is None else past.shape[2],
            causal=bool(said.get("is_causal", 0)),
            left=said.get("left_window_size", -1),
            right=said.get("right_window_size", -1),
            scale=said.get("scale"),
            softcap=said.get("softcap", 0.0) or None,
            scores_mode=said.get("qk_matmul_output_mode", 0),
            expected=expected,
        )

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value."""
        return self.query, self.key, self.value

    @cached_property
    def as_said(self) -> dict[str, Any]:
        """The arguments of ``attention`` that a person would write: ``is_causal`` becomes ``causal``."""
        last = torch.arange(self.q_len) + self.kv_len - self.q_len
        return self._arguments(causal=self.causal, keep=self._window_as_said(last))

    @cached_property
    def spelled_out(self) -> dict[str, Any]:
        """The same with ONNX's own positions of the queries in a mask, and without ``causal``."""
        own = self.positions[:, None, :, None]
        ahead = torch.arange(self.kv_len) - own
        return self._arguments(causal=False, keep=combine(ahead <= 0 if self.causal else None, self._window(ahead)))

    @property
    def q_len(self) -> int:
        """Number of queries."""
        return self.query.shape[2]

    @property
    def kv_len(self) -> int:
        """Number of keys, cached ones included."""
        return self.key.shape[2]

    @property
    def positions(self) -> Tensor:
        """ONNX's positions of the queries among the keys, (batch or 1, q_len)."""
        first = torch.tensor([self.num_cached or 0])
        if self.num_valid_keys is not None:
            first = self.num_valid_keys - self.q_len
        return first[:, None] + torch.arange(self.q_len)

    def _arguments(self, *, causal: bool, keep: Tensor | None) -> dict[str, Any]:
        valid = None
        if self.num_valid_keys is not None:
            valid = (torch.arange(self.kv_len) < self.num_valid_keys[:, None])[:, None, None]
        is_mask = self.side is not None and self.side.dtype == torch.bool
        return {
            "attn_mask": combine(self.side if is_mask else None, valid, keep),
            "attn_bias": None if is_mask else self.side,
            "causal": causal,
            "scale": self.scale,
            "softcap": self.softcap,
        }

    def _window_as_said(self, positions: Tensor) -> Tensor | None:
        if self.left >= 0 and self.causal:
            return sliding_window_mask(self.q_len, self.kv_len, window=self.left + 1)
        return self._window(torch.arange(self.kv_len) - positions[:, None])

    def _window(self, ahead: Tensor) -> Tensor | None:
        """Return which keys lie in the window; ``ahead`` says how far each is after the query."""
        return combine(
            ahead >= -self.left if self.left >= 0 else None, ahead <= self.right if self.right >= 0 else None
        )


def _named(names: tuple[str, ...], given: list[str], values: list[np.ndarray]) -> Iterator[tuple[str, Tensor]]:
    """Yield the values under our names; an empty name stands for what was left out, and has no value."""
    remaining = iter(values)
    for name, said in zip(names, given, strict=False):
        if said:
            yield name, _tensor(next(remaining))


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.name == "bfloat16":  # which NumPy knows by the package ml_dtypes and PyTorch does not take
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array)


def _split(tensor: Tensor, heads: int | None) -> Tensor:
    """Turn (batch, len, heads · width) into four axes."""
    return tensor if heads is None else tensor.unflatten(2, (heads, -1)).transpose(1, 2)


def _widened(side: Tensor | None, kv_len: int) -> Tensor | None:
    """Close the keys beyond the last that a mask or bias has a column for, as ONNX does."""
    if side is None or side.shape[-1] == kv_len:
        return side
    closed: Any = False if side.dtype == torch.bool else -torch.inf
    return torch.nn.functional.pad(side, (0, kv_len - side.shape[-1]), value=closed)
