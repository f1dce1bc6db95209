"""How large the gradient is in each layer, split into what reaches the scores and what reaches the values."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.utils import get_total_norm

__all__ = ["GradientProbe"]

_SCORES = ("query", "key")
_VALUES = ("value", "output")


class GradientProbe:
    """Norms of the gradient per encoder layer, read after ``backward`` and before clipping.

    Args:
        model: the model; its attention modules are those with submodules query, key, value and output.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = dict(model.named_modules())
        self._layers: list[tuple[str, list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]] = []
        for name, module in modules.items():
            children = dict(module.named_children())
            if all(child in children for child in (*_SCORES, *_VALUES)):
                parent = modules[name.rpartition(".")[0]]
                scores = [p for child in _SCORES for p in children[child].parameters()]
                values = [p for child in _VALUES for p in children[child].parameters()]
                self._layers.append((name, scores, values, list(parent.parameters())))

    def read(self) -> list[dict[str, Any]]:
        """Return one dict per layer, lowest first: its name and the L2 norms ``qk``, ``vo`` and ``all``."""
        return [
            {"layer": name, "qk": _norm(scores), "vo": _norm(values), "all": _norm(everything)}
            for name, scores, values, everything in self._layers
        ]


def _norm(parameters: Iterable[nn.Parameter]) -> float:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    return float(get_total_norm(gradients))
