"""One attention call as its kernel saw it: what statistics are taken of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from regard.functional import Pattern

__all__ = ["AttentionCall"]

_BY_KEY_HEAD = ("key", "value")
_WITH_HEADS = ("query", "output", "lse", "scores", "attn_mask", "attn_bias")
_OF_QUERIES = ("query", "output", "lse")


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One attention call; all tensors are detached, nothing is copied.

    A fused kernel is described by ``query`` (batch, heads, q_len, head_dim) and ``key`` (batch, kv_heads, kv_len,
    head_dim) with what shapes their scores. A model that computes its softmax itself is described by ``scores``
    (batch, heads, q_len, kv_len), masked and scaled, as they went into it; then ``query`` and ``key`` are None.

    Packed sequences are one batch whose sequences lie one after the other: ``offsets`` say where each begins.

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
        window: how many keys back a query sees, itself included, and as many ahead where it is not causal.
        pattern: which keys a query may see by where both stand, or None.
        alibi_slopes: (heads,), a score gets -slope · distance.
        offsets: of packed sequences, int64 (sequences + 1,) of queries and of keys on the CPU; None for a usual batch.
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
    window: int | None = None
    pattern: Pattern | None = None
    alibi_slopes: Tensor | None = None
    offsets: tuple[Tensor, Tensor] | None = None
    scale: float | None = None
    softcap: float | None = None
    kernel: str
    statistics: Mapping[str, Tensor] | None = None

    @property
    def batch(self) -> int:
        """Length of the first axis; 1 for packed sequences."""
        return self._asking.shape[0]

    @property
    def num_sequences(self) -> int:
        """Number of sequences."""
        return self.batch if self.offsets is None else len(self.offsets[0]) - 1

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Number of queries and of keys of each sequence."""
        if self.offsets is None:
            return [(self.q_len, self.kv_len)] * self.batch
        queries, keys = (bounds.diff().tolist() for bounds in self.offsets)
        return list(zip(queries, keys, strict=True))

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
        """Number of queries of a sequence; of all packed sequences together."""
        return self._asking.shape[2]

    @property
    def kv_len(self) -> int:
        """Number of keys of a sequence; of all packed sequences together."""
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
        names = ("attn_mask", "attn_bias", "causal", "window", "pattern", "alibi_slopes", "scale", "softcap")
        return {name: getattr(self, name) for name in names}

    def sequences(self) -> Iterator["AttentionCall"]:
        """Yield each sequence as a call of its own."""
        return (self.sequence(index) for index in range(self.num_sequences))

    def sequence(self, index: int) -> "AttentionCall":
        """Return one sequence as a call of its own, of views."""
        if self.offsets is not None:
            return self._unpacked(index)
        only = slice(index, index + 1)
        return replace(self, **self._cut(only), statistics=self._statistics_at(only, slice(None)))

    def query_slice(self, index: int) -> slice:
        """Return where the queries of a packed sequence lie."""
        return self._slice(0, index)

    def key_slice(self, index: int) -> slice:
        """Return where the keys of a packed sequence lie."""
        return self._slice(1, index)

    def select_heads(self, heads: Sequence[int]) -> "AttentionCall":
        """Return the same call with only ``heads``, each with its own key head."""
        chosen = torch.tensor(list(heads), device=self.device)
        group = self.num_heads // self.num_kv_heads
        picked: dict[str, Any] = {}
        for name in (*_WITH_HEADS, *_BY_KEY_HEAD):
            tensor = getattr(self, name)
            if tensor is not None and (tensor.shape[1] > 1 or name not in ("attn_mask", "attn_bias")):
                picked[name] = tensor.index_select(1, chosen // group if name in _BY_KEY_HEAD else chosen)
        if self.alibi_slopes is not None:
            picked["alibi_slopes"] = self.alibi_slopes[chosen]
        if self.statistics is not None:
            picked["statistics"] = {name: values.index_select(1, chosen) for name, values in self.statistics.items()}
        return replace(self, **picked)

    def select_sequences(self, start: int, stop: int) -> "AttentionCall":
        """Return the same call with only some of its sequences, as views."""
        return replace(self, **self._cut(slice(start, stop)), statistics=None)

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

    def _cut(self, sequences: slice) -> dict[str, Any]:
        """Return some sequences of what has an axis of them: not slopes, nor what all sequences share."""
        pattern = None if self.pattern is None else self.pattern.sequences(sequences.start, sequences.stop)
        return {"pattern": pattern} | {
            field.name: tensor[sequences]
            for field in fields(self)
            if isinstance(tensor := getattr(self, field.name), Tensor)
            and field.name != "alibi_slopes"
            and tensor.shape[0] > 1
        }

    def _unpacked(self, index: int) -> "AttentionCall":
        queries, keys = self.query_slice(index), self.key_slice(index)
        parts: dict[str, Any] = {
            name: tensor[:, :, queries if name in _OF_QUERIES else keys]
            for name in (*_OF_QUERIES, *_BY_KEY_HEAD)
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **parts, offsets=None, statistics=self._statistics_at(slice(None), queries))

    def _statistics_at(self, batch: slice, rows: slice) -> dict[str, Tensor] | None:
        if self.statistics is None:
            return None
        return {name: values[batch, :, rows] for name, values in self.statistics.items()}

    def _slice(self, side: int, index: int) -> slice:
        assert self.offsets is not None, "asked of packed sequences"
        first, end = self.offsets[side][index : index + 2].tolist()
        return slice(first, end)

    @property
    def _asking(self) -> Tensor:
        tensor = self.query if self.scores is None else self.scores
        assert tensor is not None, "a call has queries or scores"
        return tensor
