"""Dropout that does not wait for random numbers."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError

__all__ = ["FastDropout"]

_LEVELS = 1 << 16
_INT16_MIN, _INT64_MIN = -(1 << 15), -(1 << 63)


class FastDropout(nn.Module):
    """Zero each element with probability ``p`` while training, and scale the others by 1 / (1 - p).

    On a CPU ``torch.nn.functional.dropout`` spends nearly all its time on drawing one random number an element. Here
    one 64-bit number of PyTorch's own generator decides about four elements, 16 bits each, which makes the whole
    operation several times faster. ``p`` is thereby rounded to a multiple of 1/65536 (0.1 becomes 0.100006) and the
    scale belongs to the rounded value, so that the expectation is exact. On other devices, and where it is
    compiled, it is ``F.dropout``.

    The same seed (``torch.manual_seed``) gives the same mask, though not the mask of ``F.dropout``. In evaluation it
    returns its input.

    Args:
        p: probability of an element to be zeroed, 0 to below 1.

    Raises:
        ArgumentError: ``p`` is outside [0, 1), or so near to 1 that it rounds to it.

    References:
        Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (JMLR 2014).

    Example:
        >>> dropout = FastDropout(0.1)
        >>> dropout.eval()(torch.ones(2))
        tensor([1., 1.])
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1 or round(p * _LEVELS) == _LEVELS:
            raise ArgumentError(f"A dropout probability must lie in [0, 1), got {p}; use a smaller one.")
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return ``x`` with elements dropped while training, else ``x`` itself."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        level = round(self.p * _LEVELS)
        # The scalar factor is applied apart from the 0/1 mask: within it, bfloat16 would round 1/0.9 to 1.109.
        return (x * _keep(x, level)).mul_(_LEVELS / (_LEVELS - level))

    def extra_repr(self) -> str:
        """Return the probability for ``print(model)``."""
        return f"p={self.p}"


def _keep(x: Tensor, level: int) -> Tensor:
    """Return 0 with probability ``level`` / 65536 and else 1, in the shape and type of ``x``."""
    numbers = torch.empty((x.numel() + 3) // 4, dtype=torch.int64)
    # Bounds are given because `random_` without them never sets the sign bit: one decision in four would have 15 bits.
    numbers.random_(_INT64_MIN, None)
    bits = numbers.view(torch.int16)[: x.numel()].view(x.shape)
    return bits.ge_(_INT16_MIN + level).to(x.dtype)
