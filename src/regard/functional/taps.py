"""Hear of attention that no kernel of PyTorch computes: the one place where ``regard.attention`` reports itself.

PyTorch's own kernels are heard of elsewhere, through PyTorch. The chunked backend is ours, so whoever wants to know of
it listens here. Nobody listening costs one look at an empty list.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["LISTENERS", "Listener"]

Listener = Callable[[dict[str, Any], Tensor, Tensor], None]
"""Takes the arguments of the call, its output and its log-sum-exp (batch, heads, q_len)."""

LISTENERS: list[Listener] = []
"""Called after each chunked call, in order."""
