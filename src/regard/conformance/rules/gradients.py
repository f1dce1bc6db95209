"""Gradients: finite, and what differences of outputs say they are."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.sensitivity import differentiable
from regard.conformance.stream import Stream, calling
from regard.conformance.subjects.subject import Subject

__all__ = ["Gradients"]

# Of the vectors' size. Large ones stand above rounding, small ones below the next kink; a wrong gradient fails with all
_STEPS = (1e-3, 1e-4, 1e-5)
_TOLERANCE = 1e-2


class Gradients(Rule):
    """Compares the gradient along a random direction with differences of outputs along it."""

    id = "gradients"
    title = "Gradients are those of the output"
    law = "gradients by the input are finite and equal differences of outputs along a direction"
    why = (
        "A detached weight, a backward pass of one's own or a mask by multiplication trains something else than "
        "what is computed."
    )
    method = "Derivatives along random directions by autograd and by central differences in float64, extrapolated."
    tolerance = "1 % of the gradient's norm: kinks of ReLU and steps in float32 stay below, a missing path does not"
    meaning = "something on the way is detached, rounded, or has a backward pass that is not that of its forward pass"
    remedy = "look for detach(), .data, no_grad() and custom autograd functions between input and output"
    after = ("softmax", "empty_rows")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Differentiate every stream in two ways."""
        worst, number, why_not = 0.0, 0, ""
        for stream in subject.streams:
            for direction in (0,) if bench.fast or subject.kind == "model" else (0, 1):
                try:
                    slope, difference, norm = _slopes(subject, stream, bench, direction)
                except NotTestedError as reason:
                    why_not = str(reason)
                    continue
                number += 1
                error = abs(slope - difference) / norm if norm > 0 else abs(difference)
                worst = max(worst, error)
                if not error <= _TOLERANCE:
                    return failed(
                        f"along a random direction the gradient of {stream.name} says {slope:.4g}, "
                        f"outputs say {difference:.4g}",
                        measured=error,
                        tolerance=_TOLERANCE,
                        case=Case(length=bench.length, stream=stream.name),
                        ways=("central differences",),
                    )
        if not number:
            raise NotTestedError(why_not)
        return passed(
            f"gradients along {counted(number, 'direction')} equal differences of outputs",
            measured=worst,
            tolerance=_TOLERANCE,
            ways=("autograd against central differences",),
        )


def _slopes(subject: Subject, stream: Stream, bench: Bench, direction: int) -> tuple[float, float, float]:
    """Return the derivative by autograd, by differences, and the gradient's norm times the direction's size."""
    tokens = bench.tokens(stream, 1)
    weights: list[Tensor] = []

    def value(given: Tensor) -> Tensor:
        output = stream.call(given, None, None).tokens
        if not weights:
            weights.append(torch.randn(output.shape, generator=bench.generator(20 + direction)).to(output.dtype))
        return (output * weights[0]).sum()

    with differentiable(subject, tokens) as (given, vectors), torch.enable_grad(), calling("with gradients"):
        total = value(given)
        leaf = vectors()
        gradient = torch.autograd.grad(total, leaf)[0]
    size = float(leaf.detach().square().mean().sqrt())
    way = torch.randn(leaf.shape, generator=bench.generator(30 + direction)).to(leaf.dtype) * size
    slope, norm = float((gradient * way).sum()), float(gradient.norm()) * size

    def along(distance: float) -> float:
        with differentiable(subject, tokens, leaf.detach() + distance * way) as (given, _), torch.no_grad():
            return float(value(given))

    found: list[float] = []
    for step in _STEPS:
        with calling("along a direction"):
            near, far = ((along(by) - along(-by)) / (2 * by) for by in (step, 2 * step))
        found.append((4 * near - far) / 3)  # Richardson's extrapolation: the error is the step's fourth power
        if abs(found[-1] - slope) <= _TOLERANCE * norm:
            break
    best = min(found, key=lambda one: abs(one - slope))
    if norm > 0 and abs(best - slope) > _TOLERANCE * norm and _scattered(found, _TOLERANCE * norm):
        raise NotTestedError("its outputs bend so sharply that differences of them say nothing")
    return slope, best, norm


def _scattered(found: Sequence[float], allowed: float) -> bool:
    """Return whether no two steps that follow each other agree."""
    return all(not abs(one - other) <= allowed for one, other in pairwise(found))
