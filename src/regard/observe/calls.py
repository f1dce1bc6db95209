"""One attention call as its kernel saw it: what statistics are taken of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["AttentionCall"]

_BY_KEY_HEAD = ("key", "value")
_WITH_HEADS = ("query", "output", "lse", "scores", "attn_mask", "attn_bias")


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One attention call; all tensors are detached, nothing is copied.

    A fused kernel is described by ``query`` (batch, heads, q_len, head_dim) and ``key`` (batch, kv_heads, kv_len,
    head_dim) with what shapes their scores. A model that computes its softmax itself is described by ``scores``
    (batch, heads, q_len, kv_len), masked and scaled, as they went into it; then ``query`` and ``key`` are None.

    Attributes:
        query: what asks, after any rotation.
        key: what is compared with.
        value: (batch, kv_heads, kv_len, value_dim) or None where it was not seen.
        output: (batch, heads, q_len, value_dim) before the output projection, or None where it was not seen.
        scores: see above.
        lse: (batch, heads, q_len) log-sum-exp of the scores, or None where the kernel keeps it to itself.
        attn_mask: bool, four axes, True = may attend.
        attn_bias: float, four axes, added to the scores; -inf forbids.
        causal: bottom-right causal.
        scale: factor of the dot products; None for 1 / √head_dim.
        softcap: limit of the scores or None.
        kernel: what computed it.
        statistics: name -> (batch, heads, q_len), what the kernel returned with its output; None for nothing.
    """

    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    output: Tensor | None = None
    scores: Tensor | None = None
    lse: Tensor | None = None
    attn_mask: Tensor | None = None
    attn_bias: Tensor | None = None
    causal: bool = False
    scale: float | None = None
    softcap: float | None = None
    kernel: str
    statistics: Mapping[str, Tensor] | None = None

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self._asking.shape[0]

    @property
    def num_heads(self) -> int:
        """Number of query heads."""
        return self._asking.shape[1]

    @property
    def num_kv_heads(self) -> int:
        """Number of key heads; that of the query heads where the keys were not seen."""
        return self.num_heads if self.key is None else self.key.shape[1]

    @property
    def q_len(self) -> int:
        """Number of queries of a sequence."""
        return self._asking.shape[2]

    @property
    def kv_len(self) -> int:
        """Number of keys of a sequence."""
        if self.key is not None:
            return self.key.shape[2]
        return self._asking.shape[3]

    @property
    def device(self) -> torch.device:
        """Where it ran."""
        return self._asking.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the scores were computed from, or in."""
        return self._asking.dtype

    @property
    def masking(self) -> dict[str, Any]:
        """The arguments that shape the scores, as ``regard.functional`` takes them."""
        names = ("attn_mask", "attn_bias", "causal", "scale", "softcap")
        return {name: getattr(self, name) for name in names}

    def select_heads(self, heads: Sequence[int]) -> "AttentionCall":
        """Return the same call with only ``heads``, each with its own key head."""
        chosen = torch.tensor(list(heads), device=self.device)
        group = self.num_heads // self.num_kv_heads
        picked: dict[str, Any] = {}
        for name in (*_WITH_HEADS, *_BY_KEY_HEAD):
            tensor = getattr(self, name)
            if tensor is not None and (tensor.shape[1] > 1 or name not in ("attn_mask", "attn_bias")):
                picked[name] = tensor.index_select(1, chosen // group if name in _BY_KEY_HEAD else chosen)
        if self.statistics is not None:
            picked["statistics"] = {name: values.index_select(1, chosen) for name, values in self.statistics.items()}
        return replace(self, **picked)

    def select_sequences(self, start: int, stop: int) -> "AttentionCall":
        """Return the same call with only some of its sequences, as views."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}
        picked: dict[str, Any] = {
            name: tensor[start:stop] if tensor.shape[0] == self.batch else tensor for name, tensor in tensors.items()
        }
        return replace(self, **picked, statistics=None)

    def unpacked(self, group: int) -> "AttentionCall":
        """Return the call of one query whose ``group`` heads to a key head stand in the place of queries."""
        places = {name: getattr(self, name) for name in ("query", "output", "lse", "attn_mask", "attn_bias")}
        held = {name: tensor for name, tensor in places.items() if tensor is not None and tensor.shape[2] == group}
        spread: dict[str, Any] = {
            name: tensor.expand(-1, self.num_heads, *tensor.shape[2:]).flatten(1, 2).unsqueeze(2)
            for name, tensor in held.items()
        }
        return replace(self, **spread, statistics=None)

    def clone(self) -> "AttentionCall":
        """Return a copy that outlives what the model does with its tensors."""
        copies = {
            field.name: getattr(self, field.name).clone()
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **copies, statistics=None)

    @property
    def _asking(self) -> Tensor:
        tensor = self.query if self.scores is None else self.scores
        assert tensor is not None, "a call has queries or scores"
        return tensor
