"""Gradients of an attention call that are not finite."""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.observe.capture import Gradients

__all__ = ["BadGradients"]


@dataclass(frozen=True, kw_only=True)
class BadGradients:
    """What came back of a call.

    Attributes:
        layer: dotted name.
        step: when its forward ran.
        heads: those in which the gradient of query, key or value is not finite.
        came_in: whether the gradient of the output was not finite already.
    """

    layer: str
    step: int
    heads: tuple[int, ...]
    came_in: bool

    @classmethod
    def of(cls, layer: str, step: int, gradients: Gradients) -> "BadGradients | None":
        """Return them, or None where all are finite: three sums, which NaN and infinity spoil."""
        back = (gradients.query, gradients.key, gradients.value)
        total = torch.stack([each.sum(dtype=_wide(each)) for each in back]).sum()
        if bool(total.isfinite()):
            return None
        num_heads = gradients.query.shape[1]
        bad = torch.stack([_bad_heads(each, num_heads) for each in back]).any(0)
        heads = tuple(bad.nonzero()[:, 0].tolist())
        came_in = not bool(gradients.output.isfinite().all())
        return cls(layer=layer, step=step, heads=heads, came_in=came_in) if heads else None


def _bad_heads(gradient: Tensor, num_heads: int) -> Tensor:
    bad = (~gradient.isfinite()).transpose(0, 1).flatten(1).any(1)
    return bad.repeat_interleave(num_heads // len(bad))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
