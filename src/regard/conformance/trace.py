"""What happened inside of a module, in order: what its layers made, and its attention calls as the kernels saw them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from regard.functional import reference
from regard.observe import AttentionCall, taps
from regard.observe.capture import Capture
from regard.observe.layers import Layers

__all__ = ["Heard", "Made", "Trace", "traced"]

_PRODUCTS = {"aten::bmm": (0, 1), "aten::baddbmm": (1, 2)}  # positions of the two factors
_FAR, _UNDERFLOW = 10, 1e3  # exp(-1000) is 0 in float64
_LINEAR = {"aten::mm": 0, "aten::addmm": 1}  # position of what comes in


@dataclass(frozen=True)
class Made:
    """What a layer without layers inside made, or a product with weights that no layer made."""

    name: str
    given: Tensor | None
    made: Tensor


@dataclass(frozen=True)
class Heard:
    """One attention call; ``query`` and ``key`` are known also where the module computed its scores itself."""

    layer: str
    call: AttentionCall
    query: Tensor | None
    key: Tensor | None

    @property
    def weights(self) -> Tensor:
        """The weights that the call stands for, (batch, heads, q_len, kv_len) in float64."""
        return reference.weights(self.scores)

    @property
    def scores(self) -> Tensor:
        """The masked scores in float64; -inf also for what the model writes as a very negative number."""
        call = self.call
        if call.scores is not None:
            hidden = call.scores <= torch.finfo(call.scores.dtype).min / 2
            hidden |= call.scores <= torch.finfo(torch.float32).min / 2
            return call.scores.double().masked_fill(hidden, -torch.inf)
        assert call.query is not None
        assert call.key is not None
        return reference.scores(call.query.double(), call.key.double(), **call.masking)

    @property
    def hidden(self) -> Tensor:
        """Which keys the mask takes from which queries, (batch, heads, q_len, kv_len).

        A key without weight need not be hidden: the softmax of a sharp head underflows to 0. It is if its score is
        -inf, or lies further below all scores with weight than these lie apart, as a fill of -1e9 does.
        """
        scores = self.scores
        weights = reference.weights(scores)
        seen = weights > 0
        low = torch.where(seen, scores, torch.inf).amin((0, 2, 3), keepdim=True)
        high = torch.where(seen, scores, -torch.inf).amax((0, 2, 3), keepdim=True)
        return ~seen & (scores < low - _FAR * (high - low) - _UNDERFLOW)


@dataclass
class Trace:
    """Everything that was heard, in order.

    Attributes:
        events: what was made and the attention calls.
        wrong_softmax: (layer, axis, shape) of each softmax of an attention layer that does not run over the last axis.
    """

    events: list[Made | Heard] = field(default_factory=list)
    wrong_softmax: list[tuple[str, int, tuple[int, ...]]] = field(default_factory=list)

    @property
    def calls(self) -> list[Heard]:
        """The attention calls in order."""
        return [event for event in self.events if isinstance(event, Heard)]

    def before(self, call: Heard) -> list[Made]:
        """Return what was made between the previous attention call and this one, the latest first."""
        found: list[Made] = []
        for event in self.events[: self._place(call)][::-1]:
            if isinstance(event, Heard):
                break
            found.append(event)
        return found

    def after(self, call: Heard) -> list[Made]:
        """Return what was made between this attention call and the next one, in order."""
        found: list[Made] = []
        for event in self.events[self._place(call) + 1 :]:
            if isinstance(event, Heard):
                break
            found.append(event)
        return found

    def _place(self, call: Heard) -> int:
        return next(place for place, event in enumerate(self.events) if event is call)


class _Listener:
    """Hears attention operators through ``observe`` and remembers which factors the scores were made of."""

    def __init__(self, module: nn.Module, trace: Trace) -> None:
        self.factors: tuple[Tensor, Tensor] | None = None
        self._of_scores: tuple[Tensor, Tensor] | None = None
        self._trace = trace
        self._layers = Layers(module)
        self._capture = Capture(
            locate=self._running,
            heads_of=self._layers.num_heads,
            receive=self._receive,
            receive_gradients=None,
            step=lambda: 1,
            wanted=tuple,
        )

    def before(self, operator: str, arguments: Mapping[str, Any]) -> None:
        self._capture.before(operator, arguments)

    def instead(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        return None

    def wanted(self) -> tuple[str, ...]:
        return ()

    def after(self, operator: str, arguments: Mapping[str, Any], result: Any) -> None:
        if operator in taps.SOFTMAXES:
            self._of_scores = self.factors
            self._look_at_axis(arguments)
        self._capture.after(operator, arguments, result)

    def _running(self, certain: bool) -> str | None:
        """Return the layer that is running; where no class is called attention, every softmax may be."""
        return self._layers.running(certain or not self._layers.attention)

    def finish(self) -> None:
        self._capture.finish()

    def _look_at_axis(self, arguments: Mapping[str, Any]) -> None:
        scores, axis = arguments["self"], arguments["dim"]
        if scores.ndim < 3 or axis in (-1, scores.ndim - 1):
            return
        layer = self._running(False)
        if layer is not None:
            self._trace.wrong_softmax.append(
                (layer or "the module", axis % scores.ndim - scores.ndim, tuple(scores.shape))
            )

    def _receive(self, layer: str, call: AttentionCall) -> None:
        group = self._layers.packed_heads(layer, call)
        call = (call if group == 1 else call.unpacked(group)).clone()
        query, key = call.query, call.key
        if call.scores is not None and self._of_scores is not None:
            query, key = _factors(call.scores, *self._of_scores)
        self._trace.events.append(Heard(layer or "the module", call, query, key))


class _Products(TorchDispatchMode):
    """Tells of every product: with weights, and of the two factors that scores may be made of."""

    def __init__(self, trace: Trace, listener: _Listener) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._trace = trace
        self._listener = listener

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name
        if name in _LINEAR:
            self._made(args[_LINEAR[name]], result)
        elif name in _PRODUCTS:
            first, second = (args[place].detach() for place in _PRODUCTS[name])
            if second.stride(0) == 0:  # weights that are repeated for a batch that does not lie in one piece
                self._made(first, result)
            else:
                self._listener.factors = first, second
        elif name == "aten::add" and isinstance(args[1], Tensor) and args[1].ndim == 1:
            self._made(args[0], result)  # the bias that follows
        return result

    def _made(self, given: Tensor, made: Tensor) -> None:
        self._trace.events.append(Made("", given.detach().clone(), made.detach().clone()))


@contextmanager
def traced(module: nn.Module) -> Iterator[Trace]:
    """Hear what happens inside of ``module`` meanwhile; made for private copies, as hooks may change its path."""
    trace = Trace()
    listener = _Listener(module, trace)
    handles = [leaf.register_forward_hook(_told(name, trace)) for name, leaf in _leaves(module)]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it is one operator, whose insides cannot be heard
    taps.add(listener)
    try:
        with _Products(trace, listener):
            yield trace
        listener.finish()
    finally:
        taps.remove(listener)
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()


def _leaves(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (name, one)
        for name, one in module.named_modules()
        if not any(True for _ in one.children()) and not isinstance(one, nn.MultiheadAttention)
    ]


def _told(name: str, trace: Trace) -> Callable[..., None]:
    def told(_: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if isinstance(made, Tensor) and made.dtype.is_floating_point:
            first = given[0] if given and isinstance(given[0], Tensor) else None
            trace.events.append(Made(name, None if first is None else first.detach().clone(), made.detach().clone()))

    return told


def _factors(scores: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return query and key of four axes if the product of ``left`` and ``right`` has the shape of ``scores``."""
    batch, heads, q_len, kv_len = scores.shape
    if left.shape[:2] != (batch * heads, q_len) or right.shape != (batch * heads, left.shape[2], kv_len):
        return None, None
    query = left.reshape(batch, heads, q_len, -1)
    return query.clone(), right.mT.reshape(batch, heads, kv_len, -1).clone()
