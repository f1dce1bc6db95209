"""The linear layer, at the speed of the memory for the few rows of decoding."""

from jaxtyping import Float
from torch import Tensor, nn

from regard.functional import linear

__all__ = ["Linear"]


class Linear(nn.Linear):
    """PyTorch's linear layer; without gradients and for few rows, as in decoding, it may run on the native kernel.

    Parameters, their names and their first values are those of ``nn.Linear``. The kernel is taken where it was measured
    to be faster (``regard doctor`` says where); its sums have another order, so results agree to rounding.

    Example:
        >>> Linear(8, 4)(torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def forward(self, input: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:  # noqa: A002 - nn.Linear's name
        """Return ``input`` · weightᵀ + bias."""
        return linear(input, self.weight, self.bias)
