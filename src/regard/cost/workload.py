"""A model at work: with which inputs, training or not, in which precision."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.cost.calling import Arguments, Inputs, default_loss
from regard.cost.count import tensors_of

__all__ = ["Precision", "Step", "Workload"]

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is counted, planned or profiled.

    Attributes:
        model: any module.
        inputs: from batch and length to the arguments of one call.
        batch: sequences.
        length: tokens of each.
        trains: whether a step is forward, loss, backward and AdamW, in training mode; otherwise it is a forward in
            evaluation mode without gradients.
        loss: from the result and the arguments to what is trained on.
        precision: ``"bfloat16"`` for autocast.
        name: what a person reads.
        fixed_length: whether the model takes this length alone.
        assumed: what is not known and was taken to be so, in a sentence; empty for nothing.

    Raises:
        ArgumentError: a size below 1, or an unknown precision.
    """

    model: nn.Module
    inputs: Inputs
    batch: int = 1
    length: int = 512
    trains: bool = False
    loss: Callable[[Any, Arguments], Tensor] = default_loss
    precision: Precision = "float32"
    name: str = "model"
    fixed_length: bool = False
    assumed: str = ""

    def __post_init__(self) -> None:
        if min(self.batch, self.length) < 1:
            raise ArgumentError(f"batch and length must be at least 1, got {self.batch} and {self.length}.")
        if self.precision not in ("float32", "bfloat16"):
            raise ArgumentError(f'precision must be "float32" or "bfloat16", got {self.precision!r}.')

    @property
    def num_tokens(self) -> int:
        """Tokens of a batch."""
        return self.batch * self.length

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def arguments(self) -> Arguments:
        """Return the arguments of one call."""
        return self.inputs(self.batch, self.length)

    def own_copy(self) -> "Workload":
        """Return the same on a copy of the model, which training may change."""
        return replace(self, model=copy.deepcopy(self.model))


class Step:
    """One step of a workload, to be called again and again.

    Args:
        workload: what to run; a model that trains is changed by it.
        arguments: of every call; drawn once if not given.
    """

    def __init__(self, workload: Workload, arguments: Arguments | None = None) -> None:
        self.workload = workload
        self.arguments = workload.arguments() if arguments is None else arguments
        self._optimizer: torch.optim.Optimizer | None = None
        if workload.trains:
            trained = [parameter for parameter in workload.model.parameters() if parameter.requires_grad]
            if not trained:
                raise ArgumentError("A model that trains must have a parameter with a gradient, got none.")
            self._optimizer = torch.optim.AdamW(trained, fused=True)

    def make_state(self) -> list[Tensor]:
        """Have the optimizer make what it keeps from step to step, as its first step does; return that.

        For a model without numbers: the gradients are made up.
        """
        if self._optimizer is None:
            return []
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self._optimizer.step()
        self._optimizer.zero_grad()
        kept = self._optimizer.state.values()
        return [one for state in kept for one in state.values() if isinstance(one, Tensor)]

    def __call__(self) -> Sequence[Tensor]:
        """Run it once; return the floating tensors that the model returned, without their gradients."""
        workload = self.workload
        with _mode(workload.model, workload.trains), torch.set_grad_enabled(workload.trains):
            with torch.autocast(workload.device.type, torch.bfloat16, enabled=workload.precision == "bfloat16"):
                result = self.arguments.call(workload.model)
                loss = workload.loss(result, self.arguments) if workload.trains else None
            returned = [one.detach() for one in tensors_of(result) if one.dtype.is_floating_point]
            if loss is not None and self._optimizer is not None:
                loss.backward()
                self._optimizer.step()
                self._optimizer.zero_grad()
        return returned


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Have every module in training or evaluation mode meanwhile, and in its own afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was
