"""Writes down every operator that runs: what it was for, how much it computed, how long it took.

It listens below autograd, as PyTorch's own counter does, so it sees backward passes and what modules call in C++. What
PyTorch's counter does not know it counts itself: fused attention on a CPU, regard's kernels, recurrent layers.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from regard.cost.account import Account
from regard.cost.attention_calls import fused_call, product_work, work_by_blocks
from regard.cost.attention_work import AttentionWork
from regard.cost.classifier import Classifier
from regard.cost.fast_path import FAST_PATHS, fast_path
from regard.cost.footprint import Footprint, Holding
from regard.cost.imaginary import backward_number, forward_number, in_backward, is_imaginary, really
from regard.cost.operation import Operation
from regard.cost.operators import ALLOCATIONS, COPIES, SOFTMAXES, is_uncounted
from regard.cost.owners import Owners, storage_key
from regard.cost.parts import Part, Phase
from regard.cost.products import FACTORS, product_flops
from regard.cost.tags import CONSTANT, INPUT, Kind, Tag, joined
from regard.cost.workspace import kept_bytes, staying_bytes, workspace_bytes
from regard.functional import taps
from regard.observe.frames import calling_module

__all__ = ["Ledger"]

_ADDING = (1 << 64) - 1  # number of the nodes that add gradients up
_DEVICE = torch.ops.prim.device.default
_MOST_REAL = 1 << 22  # numbers of a tensor that is real although the model is imaginary
_WHOLE_NUMBERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Ledger(TorchDispatchMode):
    """Listens to every operator of this thread while it is entered.

    Args:
        model: whose weights and modules are known by name.
        imagined: whether its weights have no numbers.
        timed: whether to measure how long each operator takes; a device that works in the background is waited for.
        reads_masks: whether to count what eager attention masks, which takes a pass over its scores.

    Attributes:
        operations: what ran, in order.
        attention: number of an operation -> the attention call that it is.
        uncounted: operators that may do products and for which there is no formula -> how often they ran.
        footprint: the memory that was in use.
    """

    def __init__(
        self, model: nn.Module, *, imagined: bool = False, timed: bool = False, reads_masks: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.attention: dict[int, AttentionWork] = {}
        self.uncounted: Counter[str] = Counter()
        self.footprint = Footprint(self._forget)
        self._owners = Owners(model)
        self._classifier = Classifier(self._owners, self.operations)
        self._tags: dict[int, Tag] = {
            key: Tag(kind=Kind.WEIGHT, parameter=name) for key, name in self._owners.weights.items()
        }
        self._tags |= dict.fromkeys(self._owners.buffers, CONSTANT)
        self._by_node: dict[int, int] = {}
        self._whole: int | None = None
        self._open: dict[int, float] = {}
        self._imagined, self._timed, self._reads_masks = imagined, timed, reads_masks
        self._first_node, self._goes_back = forward_number(), False
        for parameter in model.parameters():
            self.footprint.see(parameter, Holding.WEIGHTS)
        for buffer in model.buffers():
            self.footprint.see(buffer, Holding.WEIGHTS)

    def __enter__(self) -> "Ledger":
        taps.WORK.append(self._one_call)
        return super().__enter__()  # type: ignore[no-any-return, no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        taps.WORK.remove(self._one_call)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def give(self, tensors: Sequence[Tensor]) -> None:
        """Say that ``tensors`` are inputs of the model: numbers to compute with, or ids and masks."""
        for tensor in tensors:
            self._set(tensor, INPUT if tensor.dtype.is_floating_point else CONSTANT)
            if _has_storage(tensor):
                self.footprint.see(tensor, Holding.INPUTS)

    def settle(self, results: Sequence[Tensor]) -> None:
        """Decide what every operation was for, once the model has returned ``results``."""
        sources = [self._tag(tensor).sources for tensor in results]
        self._classifier.settle({next(iter(one)) for one in sources if len(one) == 1})

    def account(self, num_parameters: int) -> Account:
        """Return what was written down so far."""
        return Account(
            operations=tuple(self.operations),
            attention=tuple(self.attention.values()),
            uncounted=dict(self.uncounted),
            num_parameters=num_parameters,
            peak_bytes=self.footprint.peak,
            at_peak=dict(self.footprint.at_peak),
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator and write it down."""
        kwargs = kwargs or {}
        if func is _DEVICE:
            return func(*args, **kwargs)
        read = list(_tensors((args, kwargs)))
        began = time.perf_counter()
        result = self._run(func, read, args, kwargs)
        if self._timed and read and read[0].is_cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began if self._timed else 0.0
        made = [tensor for tensor in _tensors(result) if _has_storage(tensor)]
        self._write(func, args, kwargs, read, made, result, seconds)
        return result

    # running

    def _run(self, func: Any, read: Sequence[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run ``func``; for real where nothing imaginary is read and nothing large is made."""
        if not self._imagined or not self._is_real(func, read, args, kwargs):
            return func(*args, **kwargs)
        with really():
            return func(*args, **kwargs)

    def _is_real(self, func: Any, read: Sequence[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        if any(is_imaginary(tensor) for tensor in read):
            return False
        if read:
            return _largest(read, args) <= _MOST_REAL
        if _largest((), args) == 1 and not any(isinstance(one, list | tuple) and one for one in args):
            return True  # one number
        name = func._schema.name if isinstance(func, OpOverload) else ""
        counts = name == "aten::arange" and all(isinstance(one, int) for one in args)
        whole = kwargs.get("dtype") in _WHOLE_NUMBERS or (kwargs.get("dtype") is None and counts)
        return whole and _largest((), args) <= _MOST_REAL

    # writing down

    def _write(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        read: Sequence[Tensor],
        made: Sequence[Tensor],
        result: Any,
        seconds: float,
    ) -> None:
        namespace, _, name = func._schema.name.partition("::")
        backward = in_backward()
        arguments = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | dict(kwargs)
        self._look_at_graph(backward)
        for tensor in made:
            # oneDNN's buffer of a recurrent layer, imagined as empty and really for the most part untouched
            kept = kept_bytes(name, arguments) if name == "mkldnn_rnn_layer" and tensor.dtype == torch.uint8 else None
            self.footprint.see(tensor, self._holding(read, backward), kept)
        known = {storage_key(tensor) for tensor in read if _has_storage(tensor)}
        if made and not func._schema.is_mutable and all(storage_key(tensor) in known for tensor in made):
            if backward and name == "detach" and backward_number() == _ADDING:
                self.footprint.hold(made[0], Holding.GRADIENTS)
            return  # a view
        tags = [self._tag(tensor) for tensor in read]
        if self._whole is not None or name in ALLOCATIONS:
            self._set_all(made, known, CONSTANT if name in ALLOCATIONS else joined(tags))
            if self._whole is not None and torch.is_grad_enabled():
                self._by_node.setdefault(forward_number(), self._whole)
            self.footprint.mark(f"{namespace}.{name}")
            return
        phase = self._phase(tags, read, func, backward)
        operation = Operation(
            operator=f"{namespace}.{name}",
            phase=phase,
            module="" if phase != Phase.FORWARD else self._running(),
            seconds=seconds,
            numbers=max(_numbers(read), _numbers(made)),
            moved_bytes=_bytes(read) + _bytes(made),
        )
        self.operations.append(operation)
        self.footprint.mark(operation.operator, workspace_bytes(name, arguments), staying_bytes(name))
        if phase == Phase.FORWARD:
            tag = self._forward(func, name, args, kwargs, arguments, read, tags, result)
            if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in read):
                self._by_node.setdefault(forward_number(), len(self.operations) - 1)
        else:
            tag = Tag(kind=Kind.GRADIENT)
            self._later(func, name, args, kwargs, arguments, result)
        self._set_all(made, known, tag)

    def _look_at_graph(self, backward: bool) -> None:
        """Count the nodes of this step's graph: those since the last backward pass, which frees them."""
        if not backward and self._goes_back:
            self._first_node = forward_number()
        self._goes_back = backward
        self.footprint.graph(forward_number() - self._first_node)

    def _forward(
        self,
        func: Any,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        arguments: Mapping[str, Any],
        read: Sequence[Tensor],
        tags: Sequence[Tag],
        result: Any,
    ) -> Tag:
        number, operation = len(self.operations) - 1, self.operations[-1]
        if name in FAST_PATHS:
            self.operations.pop()
            parts, work = fast_path(arguments, operation)
            self.attention[number + 1] = work
            self.operations.extend(parts)
            return Tag(kind=Kind.DATA, sources=frozenset({len(self.operations) - 1}))
        call = fused_call(name, arguments, operation.module)
        if call is not None:
            operation.flops, operation.needed = call.work.forward_flops
            self.attention[number] = call.work
            return self._classifier.attend([self._tag(tensor) for tensor in call.tensors])
        self._count(func, name, args, kwargs, result)
        places = FACTORS.get(name)
        factors = None if places is None else (args[places[0]], args[places[1]])
        tagged = None if factors is None else (self._tag(factors[0]), self._tag(factors[1]))
        fixed = (tensor for tag, tensor in zip(tags, read, strict=True) if tag.kind == Kind.CONSTANT)
        masks = any(tensor.ndim > 1 and tensor.numel() > 1 for tensor in fixed)
        tag = self._classifier.take(name, tags, factors=tagged, masks=masks)
        if factors is not None and operation.part == Part.CORE:
            self._eager(number, factors, tag)
        elif name in SOFTMAXES and self._reads_masks:
            self._read_mask(args[0])
        return tag

    def _later(
        self,
        func: Any,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        arguments: Mapping[str, Any],
        result: Any,
    ) -> None:
        """Write down what a backward pass or an optimizer did."""
        operation = self.operations[-1]
        node = backward_number() if operation.phase == Phase.BACKWARD else None
        operation.twin = None if node is None else self._by_node.get(node)
        if operation.twin is not None:
            operation.module = self.operations[operation.twin].module
        call = fused_call(name, arguments, operation.module)
        if call is not None:
            operation.part = Part.CORE
            operation.flops, operation.needed = call.work.backward_flops
        else:
            self._count(func, name, args, kwargs, result)
        if operation.phase == Phase.UPDATE:
            operation.part = Part.OPTIMIZER
        elif name in COPIES:
            operation.part = Part.COPIES

    def _count(self, func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        operation = self.operations[-1]
        flops = product_flops(func, args, kwargs, result)
        if flops is None and is_uncounted(func.namespace, name):
            self.uncounted[operation.operator] += 1
        operation.flops = operation.needed = flops or 0

    def _eager(self, number: int, factors: tuple[Tensor, Tensor], tag: Tag) -> None:
        """Note a product of the core that is not fused: one that makes scores is a call."""
        operation = self.operations[number]
        if tag.of_scores:
            self.attention[number] = product_work(*factors, operation.module)
            return
        sources = {source for factor in factors for source in self._tag(factor).sources}
        shares = [self._open[source] for source in sources if source in self._open]
        operation.needed = round(operation.flops * min(shares, default=1.0))

    def _read_mask(self, scores: Tensor) -> None:
        made = [source for source in self._tag(scores).sources if source in self.attention]
        if len(made) != 1 or not self._tag(scores).of_scores or is_imaginary(scores):
            return
        share = float((scores > torch.finfo(scores.dtype).min / 2).double().mean())
        operation, work = self.operations[made[0]], self.attention[made[0]]
        self._open[made[0]], operation.needed = share, round(operation.flops * share)
        self.attention[made[0]] = _masked(work, round(work.computed * share))

    @contextmanager
    def _one_call(self, kernel: str, arguments: dict[str, Any]) -> Iterator[None]:
        """Take what runs meanwhile as one operation: a call of a backend of ours."""
        backward = kernel in (taps.CHUNKED_BACKWARD, taps.NATIVE_BLOCKS_BACKWARD)
        taken = [arguments[name] for name in ("query", "key", "value", "output")]
        operation = Operation(
            operator=kernel.replace(" ", ".", 1),
            phase=Phase.BACKWARD if backward else Phase.FORWARD,
            module=self._running(),
            numbers=_numbers(taken),
            moved_bytes=_bytes(taken),
        )
        self.operations.append(operation)
        number = self._whole = len(self.operations) - 1
        work = work_by_blocks(kernel.removesuffix(" backward"), arguments, operation.module)
        operation.flops, operation.needed = work.backward_flops if backward else work.forward_flops
        tag = self._classifier.attend([self._tag(tensor) for tensor in taken[:3]])
        self.footprint.mark(operation.operator, workspace_bytes(kernel, arguments), staying_bytes(kernel))
        began = time.perf_counter()
        try:
            yield
        finally:
            operation.seconds = time.perf_counter() - began if self._timed else 0.0
            self._whole = None
        if not backward:
            self.attention[number] = work
            self._set(arguments["output"], tag)

    def _phase(self, tags: Sequence[Tag], read: Sequence[Tensor], func: Any, backward: bool) -> Phase:
        if backward:
            return Phase.BACKWARD
        if any(tag.kind == Kind.GRADIENT for tag in tags):
            return Phase.UPDATE
        mutates = func._schema.is_mutable and read and storage_key(read[0]) in self._owners.weights
        return Phase.UPDATE if mutates else Phase.FORWARD

    def _holding(self, read: Sequence[Tensor], backward: bool) -> Holding:
        if backward:
            return Holding.TEMPORARIES
        held = {self.footprint.holds(tensor) for tensor in read if _has_storage(tensor)}
        updates = bool(held) and held <= {Holding.GRADIENTS, Holding.WEIGHTS, Holding.OPTIMIZER}
        return Holding.OPTIMIZER if updates else Holding.ACTIVATIONS

    def _running(self) -> str:
        caller = calling_module(self._owners.modules)
        return "" if caller is None else caller.name

    # tags

    def _tag(self, tensor: Tensor) -> Tag:
        if not _has_storage(tensor):
            return INPUT
        default = INPUT if tensor.dtype.is_floating_point else CONSTANT
        return self._tags.get(storage_key(tensor), default)

    def _set(self, tensor: Tensor, tag: Tag) -> None:
        if _has_storage(tensor) and storage_key(tensor) not in self._owners.weights:
            self._tags[storage_key(tensor)] = tag

    def _set_all(self, made: Sequence[Tensor], known: set[int], tag: Tag) -> None:
        for tensor in made:
            self._set(tensor, tag)

    def _forget(self, key: int) -> None:
        if key not in self._owners.weights:
            self._tags.pop(key, None)


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested


def _tensors(found: Any) -> Iterator[Tensor]:
    """Yield the tensors among arguments or results."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list | tuple):
        for one in found:
            yield from _tensors(one)
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from _tensors(one)


def _numbers(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _largest(read: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Return how many numbers an operator makes at most, as far as its inputs and the sizes that it is given say."""
    most = 1
    for one in args:
        sizes = one if isinstance(one, list | tuple) else [one]
        if all(isinstance(size, int) and not isinstance(size, bool) for size in sizes):
            most = max(most, math.prod(max(1, size) for size in sizes))
    axes = max((tensor.ndim for tensor in read), default=0)
    broadcast = (max((t.shape[-axis] for t in read if t.ndim >= axis), default=1) for axis in range(1, axes + 1))
    return max(most, math.prod(broadcast))


def _masked(work: AttentionWork, needed: int) -> AttentionWork:
    return replace(work, needed=needed, mask_is_read=True, has_mask=needed < work.computed)
