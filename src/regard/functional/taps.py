"""Hear of attention that no kernel of PyTorch computes: the one place where ``regard.attention`` reports itself.

PyTorch's own kernels are heard of elsewhere, through PyTorch. The chunked and the native backend are ours, so whoever
wants to know of them listens here. Nobody listening costs one look at an empty list.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["CHUNKED", "LISTENERS", "NATIVE", "NATIVE_BACKWARD", "Listener", "report"]

CHUNKED, NATIVE, NATIVE_BACKWARD = "regard chunked", "regard native", "regard native backward"
"""Names of the kernels; the backward pass of the chunked one is not reported."""

Listener = Callable[[str, dict[str, Any], tuple[Tensor, ...]], None]
"""Takes the kernel's name, the arguments of the call and what it returned.

That is the output and the log-sum-exp (batch, heads, q_len); in the backward pass the gradients of query, key and
value, with ``out`` and ``grad_out`` as arguments.
"""

LISTENERS: list[Listener] = []
"""Called after each such call, in order."""


def report(kernel: str, arguments: dict[str, Any], result: tuple[Tensor, ...]) -> None:
    """Tell every listener."""
    for listener in tuple(LISTENERS):
        listener(kernel, arguments, result)
