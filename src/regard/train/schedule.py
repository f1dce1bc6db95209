"""The learning rate over time."""

import math

from regard._errors import ArgumentError

__all__ = ["learning_rate_factor"]


def learning_rate_factor(kind: str, step: int, *, total: int, warmup: int) -> float:
    """Return the factor of the peak learning rate at ``step``, counted from 1; the warm-up is linear.

    ``linear`` falls to 0 behind the last step, ``cosine`` likewise along half a wave, ``inverse_sqrt`` as
    √(warmup / step) without an end: the Noam schedule, whose rate is peak · min(step / warmup, √(warmup / step)).

    Args:
        kind: ``"linear"``, ``"cosine"`` or ``"inverse_sqrt"``.
        step: the step that is about to be taken.
        total: number of steps.
        warmup: number of the step at which the peak is reached.

    Raises:
        ArgumentError: another ``kind``.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, equation 3; Loshchilov and Hutter, SGDR,
        arXiv:1608.03983.
    """
    if step <= warmup:
        return step / max(warmup, 1)
    if kind == "inverse_sqrt":
        return math.sqrt(max(warmup, 1) / step)
    left = (total - step + 1) / (total - warmup)
    if kind == "linear":
        return left
    if kind == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    raise ArgumentError(f"A schedule must be linear, cosine or inverse_sqrt, got {kind!r}.")
