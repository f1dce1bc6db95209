"""Where did the first number that is not finite come from? Parameters, inputs, and the layers that were still finite.

Nothing of this is looked at while all is well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["BadParameter", "bad_parameter", "origin_of"]


@dataclass(frozen=True, kw_only=True)
class BadParameter:
    """A parameter that is not finite.

    Attributes:
        name: dotted.
        num_bad: how many of its numbers are not.
    """

    name: str
    num_bad: int


def bad_parameter(model: nn.Module, layer: str, last_finite: str | None) -> BadParameter | None:
    """Return the parameter that spoils what enters ``layer``: one of its own, else the first before it.

    Args:
        model: without wrappers.
        layer: dotted name of the layer that got numbers which are not finite.
        last_finite: the attention layer before it whose output was finite; parameters before that one are not to blame.
    """
    for name, parameter in _candidates(model, layer, last_finite):
        if parameter.is_floating_point() and not bool(parameter.isfinite().all()):
            return BadParameter(name=name, num_bad=int((~parameter.isfinite()).sum()))
    return None


def origin_of(arguments: Mapping[str, Any], last_finite: str | None) -> str:
    """Say where numbers that are not finite entered, as far as that is known without another forward.

    Args:
        arguments: of the model's forward.
        last_finite: as for ``bad_parameter``.
    """
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            return f"the model's input {name}"
    if last_finite is None:
        return "what the model does before its first attention layer"
    return f"what the model does after the output of {last_finite}, which was finite"


def _candidates(model: nn.Module, layer: str, last_finite: str | None) -> Iterator[tuple[str, Tensor]]:
    named = dict(model.named_parameters())
    holder = layer
    while holder and not any(_within(name, holder) for name in named):  # the core of attention has none of its own
        holder = holder.rpartition(".")[0]
    own = [name for name in named if _within(name, holder)]
    yield from ((name, named[name]) for name in own)
    before = list(named)[: list(named).index(own[0])] if own else list(named)
    if last_finite is not None:
        begins = next((at for at, name in enumerate(before) if _within(name, last_finite)), 0)
        before = before[begins:]
    yield from ((name, named[name]) for name in before)


def _within(name: str, module: str) -> bool:
    return not module or name.startswith(f"{module}.")
