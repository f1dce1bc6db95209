"""Less memory for more time: blocks that compute their activations again in the backward pass."""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from regard._errors import UnsupportedError
from regard.modules import ResidualAttention

__all__ = ["recompute_blocks"]


def recompute_blocks(model: nn.Module) -> int:
    """Have each Transformer block keep its input alone for the backward pass, and compute the rest once more there.

    Losses and gradients stay what they are, dropout included; a step takes about a third more time. In evaluation
    nothing changes.

    Args:
        model: changed in place.

    Returns:
        How many blocks there are.

    Raises:
        UnsupportedError: the model has no ``ResidualAttention``.

    References:
        Chen et al., Training deep nets with sublinear memory cost, arXiv:1604.06174.
    """
    blocks = [module for module in model.modules() if isinstance(module, ResidualAttention)]
    if not blocks:
        raise UnsupportedError(
            f"Recomputing needs a model with Transformer blocks, got {type(model).__name__} without; leave it out."
        )
    for block in blocks:
        _recompute(block)
    return len(blocks)


def _recompute(block: nn.Module) -> None:
    forward = block.forward

    def recomputed(*arguments: Any, **named: Any) -> Any:
        if not block.training:
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    block.forward = recomputed
