"""Hear PyTorch's attention kernels while they run, wherever they are called from.

Every operator of PyTorch has one kernel per kind of device, and ``torch.library`` lets a Python function take the place
of a kernel and call the one that it replaced. That is done here for the few operators that compute attention, for as
long as something is watched. Unlike hooks, function modes and dispatch modes it leaves alone what PyTorch looks at when
it chooses a path: fast paths stay fast, compiled code stays compiled, and other operators cost nothing more.

This is the only module of the room that knows names of private operators of PyTorch.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from regard.functional import taps

__all__ = [
    "ADDING_PRODUCT",
    "FAST_PATH",
    "FLASH",
    "MATH",
    "NATIVE",
    "OURS",
    "PRODUCT",
    "QKV",
    "SOFTMAXES",
    "Listener",
    "add",
    "has_backward",
    "ignored",
    "in_backward",
    "in_parts",
    "remove",
]

FLASH = "_scaled_dot_product_flash_attention_for_cpu"
"""The one that the native kernels can stand in for."""

# What ``scaled_dot_product_attention`` chooses from; each has a ``_backward``.
_FUSED = (
    FLASH,
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
FAST_PATH = "_native_multi_head_attention"
"""The C++ fast path of ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer``."""
QKV = "_transform_bias_rescale_qkv"
"""Makes query, key and value within the fast path."""
SOFTMAXES = ("_safe_softmax", "_softmax")
"""The first is what ``scaled_dot_product_attention`` uses where no fused kernel fits."""
MATH = "math"
"""Not an operator: what ``scaled_dot_product_attention`` does where no fused kernel fits."""
PRODUCT = "bmm"
"""The product of weights and values where they are not fused."""
ADDING_PRODUCT = "baddbmm"
"""The product of query and key where a mask is added within it."""
NATIVE = "regard native for flash"
"""Not an operator: the native kernel in the place of ``FLASH``."""
OURS = (taps.CHUNKED, taps.NATIVE, taps.NATIVE_BLOCKS, taps.FLEX, taps.TRITON, taps.PACKED)
"""Not operators: backends of ``regard.attention``."""

_OPERATORS = (*_FUSED, *(f"{name}_backward" for name in _FUSED), FAST_PATH, QKV, *SOFTMAXES, PRODUCT, ADDING_PRODUCT)


@runtime_checkable
class Listener(Protocol):
    """What is told of each operator; it must not change tensors."""

    def before(self, operator: str, arguments: Mapping[str, Any]) -> None:
        """Hear that ``operator`` is about to run."""
        ...

    def after(self, operator: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Hear that ``operator`` has run."""
        ...

    def instead(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        """Return what ``operator`` is to return without running, or None to let it run."""
        ...

    def wanted(self) -> Sequence[str]:
        """Return the statistics of rows that a kernel which can is to return with its output."""
        ...


class _Taps:
    """All listeners of the process, and the operators taken over for them; nothing is, while there are none."""

    def __init__(self) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()
        self._library: torch.library.Library | None = None
        self._busy = threading.local()

    def add(self, listener: Listener) -> None:
        with self._lock:
            self.listeners = (*self.listeners, listener)
            if self._library is None:
                self._take_over()

    def remove(self, listener: Listener) -> None:
        with self._lock:
            self.listeners = tuple(other for other in self.listeners if other is not listener)
            if not self.listeners and self._library is not None:
                self._library._destroy()
                self._library = None
                taps.LISTENERS.remove(self._ours)
                taps.WANTED.remove(self._wanted)

    def _take_over(self) -> None:
        library = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"(?s).*Overriding a previously registered kernel")
            for name in _OPERATORS:
                if hasattr(torch.ops.aten, name):
                    for device in _devices():
                        self._take(library, name, device)
        self._library = library
        taps.LISTENERS.append(self._ours)
        taps.WANTED.append(self._wanted)

    def _take(self, library: torch.library.Library, name: str, device: str) -> None:
        operator = getattr(torch.ops.aten, name).default
        try:
            kernel = torch.library.get_kernel(operator, device)
        except RuntimeError:  # this operator has no kernel for this kind of device
            return
        names = tuple(argument.name for argument in operator._schema.arguments)
        library.impl(name, self._tapped(name, names, kernel.call_boxed), device, with_keyset=True, allow_override=True)

    def _tapped(self, name: str, names: tuple[str, ...], kernel: Callable[..., Any]) -> Callable[..., Any]:
        def tapped(keyset: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self._busy, "now", False):
                return kernel(keyset, *args, **kwargs)
            arguments = dict(zip(names, args, strict=False)) | kwargs
            self._tell("before", name, arguments)
            result = self._instead(name, arguments)
            result = kernel(keyset, *args, **kwargs) if result is None else result
            self._tell("after", name, arguments, result)
            return result

        return tapped

    def _ours(self, kernel: str, arguments: dict[str, Any], result: tuple[Tensor | None, ...]) -> None:
        if not getattr(self._busy, "now", False):
            self._tell("after", kernel, arguments, result)

    def _instead(self, name: str, arguments: Mapping[str, Any]) -> Any:
        with self.ignored():
            answers = (listener.instead(name, arguments) for listener in self.listeners)
            return next((answer for answer in answers if answer is not None), None)

    def _wanted(self) -> Iterator[str]:
        for listener in self.listeners:
            yield from listener.wanted()

    def _tell(self, when: str, *what: Any) -> None:
        with self.ignored():
            for listener in self.listeners:
                getattr(listener, when)(*what)

    @contextmanager
    def ignored(self) -> Iterator[None]:
        before, self._busy.now = getattr(self._busy, "now", False), True
        try:
            yield
        finally:
            self._busy.now = before


_TAPS = _Taps()


def add(listener: Listener) -> None:
    """Tell ``listener`` of every attention operator of this process, in any thread, until it is removed."""
    _TAPS.add(listener)


def remove(listener: Listener) -> None:
    """End what ``add`` began; PyTorch's own kernels are back when nobody listens any more."""
    _TAPS.remove(listener)


def ignored() -> AbstractContextManager[None]:
    """Tell nobody of operators that this thread runs meanwhile."""
    return _TAPS.ignored()


def has_backward(kernel: str) -> bool:
    """Return whether ``kernel`` has a backward operator that is heard as well."""
    return kernel in (*_FUSED, taps.NATIVE, NATIVE)


def in_parts() -> bool:
    """Return whether what this thread computes is part of a call of ours that is told as one."""
    return taps.in_parts()


def in_backward() -> bool:
    """Return whether this thread runs a backward pass, where a forward is a recomputation."""
    return bool(torch._C._current_graph_task_id() != -1)


def _devices() -> tuple[str, ...]:
    """Return the dispatch keys of the devices that are there, dense and nested."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kinds = ["CPU"] if accelerator is None else ["CPU", accelerator.type.upper()]
    return tuple(f"{prefix}{kind}" for kind in kinds for prefix in ("", "NestedTensor"))
