"""Mutants of linear biases: ALiBi with the wrong sign."""

from typing import Any

import torch
from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import derived
from regard.conformance.mutants.steps import Steps

__all__ = ["ALIBI_MUTANTS"]

_REPORT = "meta-pytorch/attention-gym#86"
_SAYS = "the bias was slope · (query - key) where it must be slope · (key - query)"


class _Sloped:
    """Causal attention with slopes, sign · slope · distance added to the scores."""

    __name__ = "sloped"

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, alibi_slopes: Tensor | None = None) -> Tensor:
        places = torch.arange(query.shape[2])
        bias = None
        if alibi_slopes is not None:
            bias = self.sign * alibi_slopes[:, None, None] * (places[:, None] - places).abs()
        return Steps()(query, key, value, bias, is_causal=True)


def _rewarding(model: Any) -> Any:
    for block in model.transformer.h:
        healthy = type(block.self_attention).forward

        def forward(self: Any, *given: Any, alibi: Tensor, _healthy: Any = healthy, **named: Any) -> Any:
            return _healthy(self, *given, alibi=-alibi, **named)

        derived(block.self_attention, forward=forward)
    return model


ALIBI_MUTANTS = (
    Mutant(
        name="slopes with the wrong sign",
        kind="linear bias with the wrong sign",
        report=_REPORT,
        report_says=_SAYS,
        on="function",
        rule="alibi",
        healthy=lambda seed: _Sloped(-1.0),
        mutate=lambda healthy: _Sloped(1.0),
    ),
    Mutant(
        name="slopes with the wrong sign (bloom)",
        kind="linear bias with the wrong sign",
        report=_REPORT,
        report_says=_SAYS,
        on="bloom",
        rule="alibi",
        healthy=lambda seed: family("bloom", seed),
        mutate=_rewarding,
    ),
)
