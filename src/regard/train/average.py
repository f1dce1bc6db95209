"""A moving average of the weights, which is often worth more than the last of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average of parameters over the steps: average ← d · average + (1 - d) · weights.

    Early on the decay d is the smaller (1 + step) / (10 + step), so that the random weights of the beginning are soon
    forgotten.

    Args:
        parameters: the weights, which are averaged in their own type and on their own device.
        decay: of the average, in (0, 1).

    References:
        Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992); the rising decay is that of
        TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self._averages = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step``, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._averages, self._parameters, step)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters hold the average for the time of the context."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average."""
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state(self) -> list[Tensor]:
        """Return the average, for a checkpoint."""
        return self._averages

    @torch.no_grad()
    def restore(self, state: Sequence[Tensor]) -> None:
        """Go on with the average of a checkpoint."""
        for average, saved in zip(self._averages, state, strict=True):
            average.copy_(saved)
