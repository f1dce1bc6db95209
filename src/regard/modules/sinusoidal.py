"""Sinusoidal positions as a layer without parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional.positions import sinusoidal

__all__ = ["SinusoidalPositions"]


class SinusoidalPositions(nn.Module):
    """The table of sines and cosines, with as many places as were ever asked for.

    It takes the place of ``LearnedPositions``, has no parameters and no longest sequence.

    Args:
        embed_dim: width of the vectors; even.

    Raises:
        ArgumentError: an odd width.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, section 3.5.

    Example:
        >>> SinusoidalPositions(8)(5, offset=2).shape  # places 2 to 6
        torch.Size([5, 8])
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        if embed_dim < 2 or embed_dim % 2:
            raise ArgumentError(f"embed_dim must be even, a sine and a cosine per angle; got {embed_dim}.")
        self.embed_dim = embed_dim
        # No buffer: the table is not saved, and a model that is made without memory to be filled would leave it empty.
        self._table: Tensor | None = None

    def forward(
        self, length: int, offset: int = 0, *, device: torch.device | str | None = None
    ) -> Float[Tensor, "len embed_dim"]:
        """Return the vectors of the places ``offset`` to ``offset + length - 1``, (length, embed_dim) float32.

        Raises:
            ArgumentError: a place before the first.
        """
        if offset < 0 or length < 0:
            raise ArgumentError(f"Places must be counted from 0, got {length} from {offset} on.")
        return self.table(offset + length, device=device)[offset : offset + length]

    def table(self, length: int, *, device: torch.device | str | None = None) -> Float[Tensor, "places embed_dim"]:
        """Return the vectors of the places from 0 on, ``length`` of them or more."""
        table, device = self._table, torch.device("cpu" if device is None else device)
        if table is None or table.device != device or len(table) < length:
            table = sinusoidal(max(length, 64), self.embed_dim, device=device)
            self._table = table
        return table

    def extra_repr(self) -> str:
        """Return the width for ``print(model)``."""
        return f"embed_dim={self.embed_dim}"
