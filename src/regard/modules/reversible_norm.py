"""Reversible instance normalisation: a series is forecast without its level and size, and gets them back."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError

__all__ = ["ReversibleNorm"]


class ReversibleNorm(nn.Module):
    """Take mean and standard deviation from each channel of each window, and put them back on what is forecast of it.

    The level of a series wanders; a network that never sees it need not extrapolate it.

    Args:
        num_channels: learn a factor and a shift for each of so many channels; None for none, so that any number fits.
        eps: added to the variance.

    Raises:
        ArgumentError: fewer than one channel.

    References:
        Kim et al., Reversible instance normalization for accurate time-series forecasting against distribution shift
        (ICLR 2022).

    Example:
        >>> norm = ReversibleNorm()
        >>> x = torch.tensor([[[1.0], [3.0]]])
        >>> normed, level = norm(x)
        >>> torch.allclose(norm.undo(normed, level), x)
        True
    """

    def __init__(self, num_channels: int | None = None, *, eps: float = 1e-5) -> None:
        super().__init__()
        if num_channels is not None and num_channels < 1:
            raise ArgumentError(f"num_channels must be at least 1 or None, got {num_channels}.")
        self.eps = eps
        self.weight = None if num_channels is None else nn.Parameter(torch.ones(num_channels))
        self.bias = None if num_channels is None else nn.Parameter(torch.zeros(num_channels))

    def forward(
        self, x: Float[Tensor, "batch len channels"]
    ) -> tuple[Float[Tensor, "batch len channels"], tuple[Tensor, Tensor]]:
        """Return the windows with mean 0 and variance 1, and what ``undo`` needs."""
        mean = x.mean(1, keepdim=True)
        scale = (x.var(1, keepdim=True, correction=0) + self.eps).sqrt()
        normed = (x - mean) / scale
        if self.weight is not None and self.bias is not None:
            normed = normed * self.weight + self.bias
        return normed, (mean, scale)

    def undo(
        self, x: Float[Tensor, "batch horizon channels"], level: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "batch horizon channels"]:
        """Put level and size back."""
        if self.weight is not None and self.bias is not None:
            x = (x - self.bias) / self.weight
        mean, scale = level
        return x * scale + mean
