"""Give a model the parameter count of another one, so that two architectures are compared and not two sizes."""

from collections.abc import Callable

import torch
from torch import nn

from regard._errors import ArgumentError

__all__ = ["count_parameters", "width_for"]

_WIDEST = 1 << 16


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers ``model`` learns; a tensor that two layers share counts once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def width_for(
    num_parameters: int,
    make: Callable[[int], nn.Module],
    *,
    tolerance: float = 0.05,
    multiple_of: int = 1,
) -> int:
    """Return the width at which ``make`` has as many parameters as is wanted.

    The models are made on the meta device, where they take neither memory nor random numbers.

    Args:
        num_parameters: wanted count, such as ``count_parameters(other)``.
        make: returns the model of a width; a wider one must have more parameters.
        tolerance: largest allowed difference, as a share of ``num_parameters``.
        multiple_of: the width is a multiple of this, as of a number of heads.

    Raises:
        ArgumentError: no width comes that near: a part that does not depend on it, such as word embeddings, is too
            large, or the steps of ``multiple_of`` are too wide.

    Example:
        >>> width_for(10_000, lambda width: nn.GRU(8, width))
        53
    """
    if num_parameters < 1 or multiple_of < 1 or not 0 < tolerance < 1:
        raise ArgumentError(
            "num_parameters and multiple_of must be at least 1 and tolerance lie in (0, 1), "
            f"got {num_parameters}, {multiple_of} and {tolerance}."
        )

    def count(steps: int) -> int:
        with torch.device("meta"):
            return count_parameters(make(steps * multiple_of))

    low, high = 1, max(2, _WIDEST // multiple_of)
    while low < high:  # the narrowest that has at least as many
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= num_parameters else (middle + 1, high)
    best = min((low, max(1, low - 1)), key=lambda steps: abs(count(steps) - num_parameters))
    found = count(best)
    if abs(found - num_parameters) > tolerance * num_parameters:
        raise ArgumentError(
            f"A width must give {num_parameters:,} parameters within {100 * tolerance:g} %, got {found:,} at the "
            f"nearest width {best * multiple_of}; change the parts that do not depend on it, or "
            f"multiple_of={multiple_of}."
        )
    return best * multiple_of
