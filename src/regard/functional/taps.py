"""Hear of attention that no kernel of PyTorch computes: the one place where ``regard.attention`` reports itself.

PyTorch's own kernels are heard of elsewhere, through PyTorch. The chunked and the native backend are ours, so whoever
wants to know of them listens here. Nobody listening costs one look at an empty list.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "CHUNKED",
    "CHUNKED_BACKWARD",
    "FLEX",
    "LISTENERS",
    "NATIVE",
    "NATIVE_BACKWARD",
    "NATIVE_BLOCKS",
    "NATIVE_BLOCKS_BACKWARD",
    "PACKED",
    "TRITON",
    "WANTED",
    "WORK",
    "Listener",
    "Work",
    "as_one",
    "in_parts",
    "parts_of_a_call",
    "report",
    "wanted",
]

CHUNKED, NATIVE, NATIVE_BACKWARD = "regard chunked", "regard native", "regard native backward"
"""Names of the kernels; the backward pass of the chunked one is not reported."""
CHUNKED_BACKWARD = "regard chunked backward"
"""Told to ``WORK`` alone."""
FLEX, TRITON = "regard flex", "regard triton"
"""Likewise; their backward passes are not reported."""
NATIVE_BLOCKS = "regard native by blocks"
"""Of a pattern; its backward pass is not reported."""
NATIVE_BLOCKS_BACKWARD = "regard native by blocks backward"
"""Told to ``WORK`` alone."""
PACKED = "regard one by one"
"""Packed sequences that a kernel took one after the other; their backward pass is not reported."""

Listener = Callable[[str, dict[str, Any], tuple[Tensor | None, ...]], None]
"""Takes the kernel's name, the arguments of the call and what it returned.

That is the output and the log-sum-exp (batch, heads, q_len), None where it is not known; in the backward pass the
gradients of query, key and value, with ``out`` and ``grad_out`` as arguments. Packed sequences have a batch of 1 and
among the arguments ``offsets``, of the queries and of the keys.
"""

LISTENERS: list[Listener] = []
"""Called after each such call, in order."""

WANTED: list[Callable[[], Iterable[str]]] = []
"""Tell which statistics of rows listeners want; the native kernel then sums them up in the same pass.

They come with the arguments as ``statistics``, name -> (batch, heads, q_len).
"""

Work = Callable[[str, dict[str, Any]], AbstractContextManager[None]]
"""Takes a kernel's name and the arguments of a call, and is entered around what computes it."""

WORK: list[Work] = []
"""Entered around each call of a kernel that is many operators of PyTorch, by those who count operators."""

_THREAD = threading.local()


@contextmanager
def parts_of_a_call() -> Iterator[None]:
    """Let calls of this thread meanwhile be parts of one that is reported by itself; nothing in code that is compiled.

    Compiled code reports no call by itself, and in it the mark stayed set after the call (PyTorch 2.13), so that
    nothing of this thread was heard any more.
    """
    if torch.compiler.is_compiling():
        yield
        return
    before, _THREAD.in_parts = in_parts(), True
    try:
        yield
    finally:
        _THREAD.in_parts = before


def in_parts() -> bool:
    """Return whether what this thread computes is part of a call that is reported by itself."""
    return getattr(_THREAD, "in_parts", False)


@contextmanager
def as_one(kernel: str, arguments: dict[str, Any]) -> Iterator[None]:
    """Let those who count operators take what runs meanwhile as one call of ``kernel``."""
    with ExitStack() as around:
        for enter in () if torch.compiler.is_compiling() else WORK:
            around.enter_context(enter(kernel, arguments))
        yield


def report(kernel: str, arguments: dict[str, Any], result: tuple[Tensor | None, ...]) -> None:
    """Tell every listener."""
    for listener in tuple(LISTENERS):
        listener(kernel, arguments, result)


def wanted() -> tuple[str, ...]:
    """Return the statistics that listeners want, each once."""
    return tuple(dict.fromkeys(name for tell in WANTED for name in tell()))
