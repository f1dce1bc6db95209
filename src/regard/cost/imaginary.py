"""Models without numbers: every operator runs on shapes alone, so that any length costs milliseconds and no memory.

This is the only module of the room that touches private parts of PyTorch: its fake tensors, which ``torch.compile`` and
``torch.export`` stand on, and what autograd tells of the node that is running.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import _disable_current_modes

from regard._errors import UnsupportedError

__all__ = [
    "Imagination",
    "backward_number",
    "forward_number",
    "in_backward",
    "is_imaginary",
    "really",
    "unheard",
]

_NO_SHAPE = "shape of what they read alone"


class Imagination:
    """Where tensors have shapes and types and no numbers.

    Ids, masks and positions stay real, as far as nothing but such made them: models look at them.
    """

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def tensor(self, tensor: Tensor) -> Tensor:
        """Return an imaginary tensor of this shape, type and layout, on a CPU where it was on no device."""
        if isinstance(tensor, FakeTensor):
            return tensor
        if tensor.is_meta:
            with self._mode:
                found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                return found.requires_grad_(tensor.requires_grad)
        return self._mode.from_tensor(tensor)

    def module(self, module: nn.Module) -> nn.Module:
        """Return a copy whose floating parameters and buffers are imaginary; ``module`` itself is left as it is."""
        memo: dict[int, Any] = {}
        for parameter in module.parameters():
            made = nn.Parameter(self.tensor(parameter.detach()), requires_grad=parameter.requires_grad)
            memo[id(parameter)] = made
        for buffer in module.buffers():
            if buffer.dtype.is_floating_point or buffer.is_meta:
                memo[id(buffer)] = self.tensor(buffer.detach())
        return copy.deepcopy(module, memo)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run what follows on shapes alone.

        Raises:
            UnsupportedError: it asked for a number that is not there.
        """
        try:
            with self._mode:
                yield
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise UnsupportedError(
                f"A model that is counted without running must be able to go by the {_NO_SHAPE}, got {error.func}, "
                "which needs their numbers; let it run for real, with real=True."
            ) from error


def is_imaginary(tensor: Tensor) -> bool:
    """Return whether ``tensor`` has no numbers."""
    return isinstance(tensor, FakeTensor)


def really() -> AbstractContextManager[Any]:
    """Let operators run for real meanwhile, within a mode that would run them on shapes."""
    return unset_fake_temporarily()


def unheard() -> AbstractContextManager[Any]:
    """Let nobody hear of the operators that run meanwhile."""
    return _disable_current_modes()


def in_backward() -> bool:
    """Return whether this thread computes gradients; a forward that a checkpoint runs again does not count."""
    return torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()


def forward_number() -> int:
    """Return the number of the newest node of autograd: that of the operator that runs, if it has one."""
    return int(torch._C._autograd._get_sequence_nr()) - 1


def backward_number() -> int | None:
    """Return the number of the node whose gradient is being computed, None for none; the largest where one is added."""
    node = torch._C._current_autograd_node()
    return None if node is None else int(node._sequence_nr())
