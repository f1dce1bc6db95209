"""The position-wise feed-forward network between two attention layers."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.modules.linear import Linear

__all__ = ["ACTIVATIONS", "FeedForward"]

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "swiglu")
"""Names that ``FeedForward`` takes."""


class FeedForward(nn.Module):
    """Two linear layers with a nonlinearity between them, applied to each position alone.

    ``gelu``, ``gelu_tanh`` and ``relu``: output(f(hidden(x))). ``swiglu``: output(silu(gate(x)) · hidden(x)), with a
    third matrix; at two thirds of the hidden width it has as many parameters. ``gelu`` is the exact one, x · Φ(x), and
    ``gelu_tanh`` the approximation that GPT-2 was trained with.

    Args:
        embed_dim: width of input and output.
        hidden_dim: width between the two layers.
        activation: ``"gelu"``, ``"gelu_tanh"``, ``"relu"`` or ``"swiglu"``.
        bias: whether the linear layers have biases.

    Raises:
        ArgumentError: a width below 1, or an unknown activation.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, equation 2; Hendrycks and Gimpel, GELU,
        arXiv:1606.08415; Shazeer, GLU variants improve Transformer, arXiv:2002.05202.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, *, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        if embed_dim < 1 or hidden_dim < 1:
            raise ArgumentError(f"embed_dim and hidden_dim must be at least 1, got {embed_dim} and {hidden_dim}.")
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
        self.activation = activation
        self.hidden = Linear(embed_dim, hidden_dim, bias=bias)
        self.gate = Linear(embed_dim, hidden_dim, bias=bias) if activation == "swiglu" else None
        self.output = Linear(hidden_dim, embed_dim, bias=bias)

    def forward(self, x: Float[Tensor, "*batch embed_dim"]) -> Float[Tensor, "*batch embed_dim"]:
        """Return the network's value at each position, in the shape of ``x``."""
        hidden = self.hidden(x)
        if self.gate is not None:
            return self.output(F.silu(self.gate(x)) * hidden)  # type: ignore[no-any-return]
        if self.activation == "relu":
            return self.output(F.relu(hidden))  # type: ignore[no-any-return]
        approximate = "tanh" if self.activation == "gelu_tanh" else "none"
        return self.output(F.gelu(hidden, approximate=approximate))  # type: ignore[no-any-return]
