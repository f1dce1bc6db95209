"""From operators to attention calls: which tensors belong to one call, and which module made it.

A fused kernel is a call by itself. The C++ fast path is one operator with query, key and value made inside. Attention
that is not fused is a softmax over scores in an attention module, and the next product with its weights gives the
output.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.functional import causal_mask
from regard.functional.replacement import flash_backward, flash_forward
from regard.observe import taps
from regard.observe.calls import AttentionCall

__all__ = ["Capture", "Gradients"]

# Position of the log-sum-exp among the outputs, by kernel; kernels that pad it or leave it out are not listed.
_LSE_OUTPUT = {taps.FLASH: 1, taps.NATIVE: 1, "_scaled_dot_product_flash_attention": 1}
_REMEMBERED = 4096  # calls whose backward may still come


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What came back through one attention call; shapes and ``offsets`` as in ``AttentionCall``."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    forward_output: Tensor
    offsets: tuple[Tensor, Tensor] | None = None

    def sequences(self) -> Iterator["Gradients"]:
        """Yield what came back through each packed sequence; itself for a usual batch."""
        if self.offsets is None:
            yield self
            return
        bounds = (pairwise(side.tolist()) for side in self.offsets)
        for (first, end), (kv_first, kv_end) in zip(*bounds, strict=True):
            queries, keys = (..., slice(first, end), slice(None)), (..., slice(kv_first, kv_end), slice(None))
            yield Gradients(
                query=self.query[queries],
                key=self.key[keys],
                value=self.value[keys],
                output=self.output[queries],
                forward_output=self.forward_output[queries],
            )


@dataclass(frozen=True)
class _Remembered:
    """Whose output lies at an address, and how its sequences are packed."""

    layer: str
    step: int
    offsets: tuple[Tensor, Tensor] | None


@dataclass
class _Pending:
    """A softmax whose product with the values has not come yet."""

    layer: str
    call: AttentionCall


@dataclass
class _Native:
    """A fast path that runs."""

    arguments: Mapping[str, Any]
    reported: bool = False


@dataclass(frozen=True)
class _Replaced:
    """A call that the native kernel has just computed in the place of PyTorch's."""

    layer: str
    statistics: dict[str, Tensor]


@dataclass
class _State(threading.local):
    """What one thread is in the middle of."""

    native: list[_Native] = field(default_factory=list)
    safe: int = 0
    pending: _Pending | None = None
    replaced: _Replaced | None = None


class Capture:
    """Listens to operators and reports attention calls.

    Args:
        locate: tells the attention layer that is running, or None; its argument is whether the operator can only be
            attention.
        heads_of: tells a layer's number of heads, for scores with batch and heads in one axis.
        receive: takes the layer and the call.
        receive_gradients: takes the layer, its step and the gradients of a call; None if nobody wants them.
        step: tells the current step.
        wanted: tells the statistics of rows that a kernel which can is to return with its output.
        kernel: ``"own"``, or ``"native"`` to have the native kernels run where they can.
    """

    def __init__(
        self,
        *,
        locate: Callable[[bool], str | None],
        heads_of: Callable[[str], int | None],
        receive: Callable[[str, AttentionCall], None],
        receive_gradients: Callable[[str, int, Gradients], None] | None,
        step: Callable[[], int],
        wanted: Callable[[], Sequence[str]],
        kernel: str = "own",
    ) -> None:
        self._locate = locate
        self._heads_of = heads_of
        self._receive = receive
        self._receive_gradients = receive_gradients
        self._step = step
        self.wanted = wanted
        self._replaces = kernel == "native"
        self._outputs: dict[int, _Remembered] = {}
        self._replaced: set[int] = set()  # addresses of outputs that the native kernel wrote
        self._state = _State()

    def before(self, operator: str, arguments: Mapping[str, Any]) -> None:
        """Note what is about to run around other operators."""
        if operator == taps.FAST_PATH:
            self._state.native.append(_Native(arguments))
        elif operator == "_safe_softmax":
            self._state.safe += 1

    def after(self, operator: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Make a call of what has run, if it is one."""
        if operator == taps.ADDING_PRODUCT:
            return  # it makes scores, whose softmax comes later
        if operator == taps.PRODUCT:
            self._product(arguments, result)
        elif operator in taps.SOFTMAXES:
            self._softmax(operator, arguments)
        elif operator == taps.QKV:
            self._native(*result)
        elif operator == taps.FAST_PATH:
            self._state.native.pop()
        elif operator.endswith("backward"):
            self._backward(arguments, result)
        else:
            self._fused(operator, arguments, result)

    def instead(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        """Run the native kernel in the place of PyTorch's, in the watched model and where that is asked for."""
        if not self._replaces:
            return None
        if operator == taps.FLASH:
            layer = None if self._state.native or taps.in_parts() else self._locate(True)
            found = None if layer is None else flash_forward(arguments, tuple(self.wanted()))
            if layer is None or found is None:
                return None
            self._state.replaced = _Replaced(layer, found[2])
            self._replaced.add(found[0].data_ptr())
            return found[:2]
        if operator == f"{taps.FLASH}_backward" and arguments["out"].data_ptr() in self._replaced:
            return flash_backward(arguments)
        return None

    def take(self, layer: str, call: AttentionCall) -> None:
        """Take a call that was described by hand; operators that statistics of it run are nobody's attention."""
        with taps.ignored():
            self._report(layer, _detached(call))

    def reset(self) -> None:
        """Forget what an exception left half done in this thread, and report what is complete."""
        self.finish()
        self._state.native.clear()
        self._state.safe = 0
        self._state.replaced = None

    def forget(self) -> None:
        """Forget the calls whose backward may still come: what runs unheard may use their memory again."""
        self.reset()
        self._outputs.clear()
        self._replaced.clear()

    def finish(self) -> None:
        """Report a softmax that no product followed."""
        pending, self._state.pending = self._state.pending, None
        if pending is not None:
            self._report(pending.layer, pending.call)

    def _report(self, layer: str, call: AttentionCall) -> None:
        if not taps.in_backward():
            with torch.no_grad():
                self._receive(layer, call)

    # one operator, one call

    def _fused(self, operator: str, arguments: Mapping[str, Any], result: Any) -> None:
        self.finish()
        output = result[0]
        replaced, self._state.replaced = self._state.replaced, None
        if replaced is None:
            reported = taps.in_parts() or any(running.reported for running in self._state.native)
            layer = None if reported else self._locate(True)
            self._replaced.discard(output.data_ptr())
        else:
            layer, operator = replaced.layer, taps.NATIVE
        if layer is None:
            self._outputs.pop(output.data_ptr(), None)  # memory that a watched call has given back
            return
        if self._receive_gradients is not None and taps.has_backward(operator):
            self._remember(output, layer, arguments.get("offsets"))
        if operator in taps.OURS:
            call = AttentionCall(**_regard_arguments(arguments), output=output, lse=result[1], kernel=operator)
        else:
            position = _LSE_OUTPUT.get(operator)
            lse = None if position is None else result[position]
            call = AttentionCall(
                **_fused_arguments(arguments),
                output=output,
                lse=lse,
                kernel=operator,
                statistics=None if replaced is None else replaced.statistics,
            )
        self._report(layer, _detached(call))

    def _native(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Report the fast path as soon as it has made ``query``, whose memory it uses again for the output."""
        layer = self._locate(True) if self._state.native else None
        if layer is None:
            return
        running = self._state.native[-1]
        running.reported = True
        mask = _native_mask(running.arguments, query, key)
        # The queries come out scaled.
        call = AttentionCall(query=query, key=key, value=value, attn_mask=mask, scale=1.0, kernel=taps.FAST_PATH)
        self._report(layer, _detached(call))

    def _backward(self, arguments: Mapping[str, Any], result: Any) -> None:
        if self._receive_gradients is None:
            return
        output = arguments["out"]
        known = self._outputs.get(output.data_ptr())
        if known is None:
            return
        gradient = arguments["grad_out"] if "grad_out" in arguments else arguments["grad_out_"]
        found = Gradients(
            query=result[0], key=result[1], value=result[2], output=gradient, forward_output=output,
            offsets=known.offsets,
        )  # fmt: skip
        with torch.no_grad():
            self._receive_gradients(known.layer, known.step, found)

    def _remember(self, output: Tensor, layer: str, offsets: tuple[Tensor, Tensor] | None) -> None:
        """Note whose output lies at this address: the backward pass gets the same memory back."""
        if len(self._outputs) >= _REMEMBERED:
            self._outputs.pop(next(iter(self._outputs)))
        step = self._step()
        if taps.in_backward():  # a checkpointed call that runs again
            step = next((known.step for known in reversed(self._outputs.values()) if known.layer == layer), step)
        self._outputs.pop(output.data_ptr(), None)
        self._outputs[output.data_ptr()] = _Remembered(layer, step, offsets)

    # attention that is not fused

    def _softmax(self, operator: str, arguments: Mapping[str, Any]) -> None:
        is_safe = operator == "_safe_softmax"
        self._state.safe -= is_safe
        if self._state.safe or self._state.native or taps.in_backward() or taps.in_parts():
            return
        scores = arguments["self"]
        if scores.ndim < (2 if is_safe else 3) or arguments["dim"] not in (-1, scores.ndim - 1):
            return
        layer = self._locate(is_safe)
        if layer is None:
            return
        self.finish()
        kernel = taps.MATH if is_safe else "softmax"
        call = AttentionCall(scores=self._with_heads(scores.detach(), layer), kernel=kernel)
        self._state.pending = _Pending(layer, call)

    def _product(self, arguments: Mapping[str, Any], result: Tensor) -> None:
        """Complete the pending softmax if its weights are what is multiplied."""
        pending = self._state.pending
        if pending is None or taps.in_backward():
            return
        weights, values = arguments["self"], arguments["mat2"]
        batch, heads, q_len, kv_len = pending.call.scores.shape  # type: ignore[union-attr]
        if tuple(weights.shape) != (batch * heads, q_len, kv_len):
            return
        pending.call = replace(
            pending.call,
            value=values.detach().reshape(batch, heads, kv_len, values.shape[-1]),
            output=result.detach().reshape(batch, heads, q_len, result.shape[-1]),
        )
        self.finish()

    def _with_heads(self, scores: Tensor, layer: str) -> Tensor:
        """Return scores of four axes; three are (batch · heads, q_len, kv_len) where the layer has heads."""
        if scores.ndim == 2:
            return scores[None, None]
        if scores.ndim == 3:
            heads = self._heads_of(layer) or 1
            heads = heads if scores.shape[0] % heads == 0 else 1
            return scores.reshape(-1, heads, *scores.shape[1:])
        return scores.flatten(0, scores.ndim - 4) if scores.ndim > 4 else scores


def _fused_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the arguments of a fused kernel: its mask is a bias, and its causal corner is the top left."""
    query, key = arguments["query"], arguments["key"]
    bias = arguments.get("attn_mask", arguments.get("attn_bias"))
    bias = None if bias is None else _with_infinities(_as_one_row(bias))
    causal, mask = arguments.get("is_causal", False), None
    q_len, kv_len = query.shape[-2], key.shape[-2]
    if causal and q_len != kv_len:
        mask, causal = causal_mask(q_len, q_len, device=query.device), False
        mask = mask[:, :kv_len] if kv_len < q_len else F.pad(mask, (0, kv_len - q_len), value=False)
    tensors = {"query": query, "key": key, "value": arguments["value"], "attn_mask": mask, "attn_bias": bias}
    return {**tensors, "causal": causal, "scale": arguments.get("scale")}


def _as_one_row(bias: Tensor) -> Tensor:
    """Return a bias that is the same for every query, as one of padding is, with a query axis of length one.

    PyTorch writes such a mask out for every query; read so, it costs passes over as many numbers as there are scores.
    """
    if bias.ndim < 2 or bias.shape[-2] <= 1:
        return bias
    row = bias[..., :1, :]
    if bias.stride(-2) == 0:
        return row
    if not torch.equal(row, bias[..., -1:, :]):  # as where it is causal
        return bias
    words = _as_words(bias)
    return row if torch.equal(words[..., 1:, :], words[..., :-1, :]) else bias


def _as_words(tensor: Tensor) -> Tensor:
    """Return the same memory as integers of eight bytes, which are compared faster, where rows can be read so.

    Rows of the same bits are the same; that numbers are equal by other bits, as 0 and -0 are, is not seen.
    """
    count = 8 // tensor.element_size()
    steps = (tensor.shape[-1], tensor.storage_offset(), *tensor.stride()[:-1])
    whole = tensor.stride(-1) == 1 and all(step % count == 0 for step in steps)
    return tensor.view(torch.int64) if whole else tensor


def _with_infinities(bias: Tensor) -> Tensor:
    """Return the bias with -inf for what some models write for it: the lowest finite number of its type."""
    forbidden = bias <= torch.finfo(bias.dtype).min / 2
    if not bool((forbidden & (bias != -torch.inf)).any()):
        return bias
    return bias.masked_fill(forbidden, -torch.inf)


def _regard_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in arguments if name != "dropout_p"}


def _native_mask(arguments: Mapping[str, Any], query: Tensor, key: Tensor) -> Tensor | None:
    """Return the mask of the fast path as True = may attend, of four axes; there it is True = may not.

    Its kind 0 is (q_len, kv_len), 1 is (batch, kv_len) padding, 2 is of four axes. Nested inputs have no mask but
    lengths.
    """
    source: Tensor = arguments["query"]
    if source.is_nested:
        lengths: Tensor = source._nested_tensor_size()[:, 0].to(query.device)
        return (torch.arange(key.shape[2], device=query.device) < lengths[:, None])[:, None, None, :]
    mask: Tensor | None = arguments.get("mask")
    if mask is None:
        return None
    keep = ~mask.bool()
    if keep.ndim == 2:
        return keep[:, None, None, :] if arguments.get("mask_type") == 1 else keep[None, None]
    return keep


def _detached(call: AttentionCall) -> AttentionCall:
    """Return the call with tensors of four axes and without history.

    A call without head or batch axis gets axes of length one. Three axes of a query are (batch, len, head_dim), as
    PyTorch broadcasts them; a mask of three axes then has no head axis either.
    """
    without_heads = call.query is not None and call.query.ndim == 3
    names = ("query", "key", "value", "output", "attn_mask", "attn_bias")
    found = {name: getattr(call, name) for name in names if getattr(call, name) is not None}
    changed: dict[str, Any] = {name: _four_axes(tensor.detach(), without_heads) for name, tensor in found.items()}
    if call.alibi_slopes is not None:
        changed["alibi_slopes"] = call.alibi_slopes.detach()
    if call.lse is not None:
        lse = call.lse.detach()
        changed["lse"] = lse.reshape(changed["query"].shape[:3])
    return replace(call, **changed)


def _four_axes(tensor: Tensor, without_heads: bool) -> Tensor:
    if without_heads and tensor.ndim == 3:
        return tensor[:, None]
    return tensor[(None,) * (4 - tensor.ndim)] if tensor.ndim < 4 else tensor
