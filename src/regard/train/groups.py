"""Which parameters weight decay draws to zero."""

from typing import Any

from torch import nn

__all__ = ["decayed_groups"]


def decayed_groups(module: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: matrices, which decay, and biases and norms, the parameters of one axis, which do not."""
    groups = []
    for decays in (True, False):
        parameters = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1) == decays]
        groups.append({"params": parameters, "lr": lr, "weight_decay": weight_decay if decays else 0.0})
    return groups
