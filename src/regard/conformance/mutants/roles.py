"""Mutants whose queries, keys and values are exchanged."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from regard.conformance.families import family
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.patches import kernel, with_kernel
from regard.conformance.mutants.steps import Steps, exchanged

__all__ = ["ROLE_MUTANTS"]

_STEPS = Steps()


def _keys_ask(query: Tensor, key: Tensor, factor: float) -> Tensor:
    return (factor * key) @ query.mT


def _keys_ask_in_one_layer(model: Any) -> Any:
    layer = model.encoder.layer[1].attention.self
    with_kernel(layer, "keys_ask", kernel(replace(_STEPS, scores=_keys_ask)))
    return model


ROLE_MUTANTS = (
    Mutant(
        name="keys times queries",
        kind="query and key exchanged",
        report="keyvank/femtoGPT#30",
        report_says="scores were K Qᵀ, so that keys asked and queries were looked up; training did not show it",
        on="function",
        rule="roles",
        healthy=lambda seed: _STEPS,
        mutate=exchanged(scores=_keys_ask),
    ),
    Mutant(
        name="query and key exchanged in one layer (bert)",
        kind="query and key exchanged",
        report="Khaliladib11/Transformer-from-scratch#2",
        report_says="what should have gone through one of the projections of query, key and value went through another",
        on="bert",
        rule="roles",
        healthy=lambda seed: family("bert", seed),
        mutate=_keys_ask_in_one_layer,
    ),
)
