"""Hear attention as ``Capture`` does, and besides the product of query and key that an eager model's scores come from.

That product is where half precision overflows: ``|query·key|`` before any scaling, in the type that the model computes
in. Fused kernels keep it in float32 to themselves.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from regard.observe import taps
from regard.observe.calls import AttentionCall
from regard.observe.capture import Capture, Gradients

__all__ = ["Ears", "Factors", "Heard"]


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What the scores of a call are products of.

    Attributes:
        query: (batch, heads, q_len, head_dim).
        key: (batch, kv_heads, kv_len, head_dim).
        dtype: the type that holds their product.
        scale: what the product is multiplied with, or None where the model does so itself and it was not seen.
    """

    query: Tensor
    key: Tensor
    dtype: torch.dtype
    scale: float | None

    @property
    def limit(self) -> float:
        """The largest number of the product's type."""
        return torch.finfo(self.dtype).max


@dataclass(frozen=True, kw_only=True)
class Heard:
    """An attention call that has ended.

    Attributes:
        layer: dotted name.
        call: its tensors.
        factors: of its scores, or None where they were not seen.
        projected: the module's output (batch, len, embed_dim) where that of the heads was not seen, else None.
    """

    layer: str
    call: AttentionCall
    factors: Factors | None
    projected: Tensor | None = None

    @classmethod
    def of(cls, layer: str, call: AttentionCall) -> "Heard":
        """Return a call that brings its query and key along."""
        return cls(layer=layer, call=call, factors=_own_factors(call))

    def sequences(self) -> list["Heard"]:
        """Return each packed sequence that has queries and keys as a call of its own; a usual batch as it is."""
        if self.call.offsets is None:
            return [self]
        return [Heard.of(self.layer, one) for one in self.call.sequences() if one.q_len and one.kv_len]

    def select_sequences(self, start: int, stop: int) -> "Heard":
        """Return the same call with only some of its sequences, as views."""
        factors = self.factors
        if factors is not None:
            factors = replace(factors, query=factors.query[start:stop], key=factors.key[start:stop])
        return replace(self, call=self.call.select_sequences(start, stop), factors=factors, projected=None)


@dataclass(frozen=True)
class _Product:
    """The last product in an attention layer of this thread, and the shape of what came out."""

    query: Tensor
    key: Tensor
    shape: torch.Size
    dtype: torch.dtype


class _Own(threading.local):
    def __init__(self) -> None:
        self.product: _Product | None = None
        self.fast: list[tuple[str, AttentionCall]] = []


class Ears(Capture):
    """Reports calls when their output is there.

    Args:
        locate: as for ``Capture``.
        heads_of: as for ``Capture``.
        step: as for ``Capture``.
        deliver: takes each call.
        deliver_gradients: takes layer, step and gradients.
    """

    def __init__(
        self,
        *,
        locate: Callable[[bool], str | None],
        heads_of: Callable[[str], int | None],
        step: Callable[[], int],
        deliver: Callable[[Heard], None],
        deliver_gradients: Callable[[str, int, Gradients], None],
    ) -> None:
        super().__init__(
            locate=locate,
            heads_of=heads_of,
            receive=self._hear,
            receive_gradients=deliver_gradients,
            step=step,
            wanted=tuple,
        )
        self._in_attention = locate
        self._deliver = deliver
        self._own = _Own()

    def after(self, operator: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Make a call of what has run, and remember a product that may become scores."""
        if operator in (taps.PRODUCT, taps.ADDING_PRODUCT):
            self._note(operator, arguments, result)
        super().after(operator, arguments, result)
        if operator == taps.FAST_PATH and self._own.fast:
            layer, call = self._own.fast.pop()
            with torch.no_grad():
                self._deliver(replace(Heard.of(layer, call), projected=result[0].detach()))

    def reset(self) -> None:
        """Forget what an exception left half done in this thread, and report what is complete."""
        super().reset()
        self._own.fast.clear()
        self._own.product = None

    def _note(self, operator: str, arguments: Mapping[str, Any], result: Tensor) -> None:
        if self._state.pending is not None or taps.in_backward() or self._in_attention(False) is None:
            return
        if operator == taps.PRODUCT:
            query, key = arguments["self"].detach(), arguments["mat2"].detach()
        else:
            query, key = arguments["batch1"].detach(), arguments["batch2"].detach()
            if arguments.get("alpha", 1) != 1:
                query = query * arguments["alpha"]
        self._own.product = _Product(query, key.mT, result.shape, result.dtype)

    def _hear(self, layer: str, call: AttentionCall) -> None:
        if call.kernel == taps.FAST_PATH:
            # Its output is not there yet, and will be written where the queries are.
            assert call.query is not None, "the fast path has queries"
            self._own.fast.append((layer, replace(call, query=call.query.clone())))
            return
        if call.scores is None:
            self._deliver(Heard.of(layer, call))
        else:
            self._deliver(Heard(layer=layer, call=call, factors=self._factors_of(call)))

    def _factors_of(self, call: AttentionCall) -> Factors | None:
        """Return what the last product was made of, if it has the shape of the scores."""
        product, self._own.product = self._own.product, None
        batch, heads, q_len, kv_len = (call.batch, call.num_heads, call.q_len, call.kv_len)
        if product is None or tuple(product.shape) != (batch * heads, q_len, kv_len):
            return None
        query, key = (tensor.unflatten(0, (batch, heads)) for tensor in (product.query, product.key))
        return Factors(query=query, key=key, dtype=product.dtype, scale=None)


def _own_factors(call: AttentionCall) -> Factors | None:
    if call.query is None or call.key is None or call.query.ndim != 4:
        return None
    fused = taps.has_backward(call.kernel) or call.kernel in taps.OURS
    wide = torch.float64 if call.query.dtype == torch.float64 else torch.float32
    scale = call.query.shape[-1] ** -0.5 if call.scale is None else call.scale
    return Factors(query=call.query, key=call.key, dtype=wide if fused else call.query.dtype, scale=scale)
