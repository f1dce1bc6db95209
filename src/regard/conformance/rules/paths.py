"""Paths agree: training mode, evaluation mode, with and without gradients, and every backend give the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import Case, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream, calling
from regard.conformance.subjects.private_copy import dropout_raised
from regard.conformance.subjects.subject import Subject

__all__ = ["Paths"]


class Paths(Rule):
    """Takes every way from input to output that the subject has."""

    id = "paths"
    title = "Every path gives the same"
    law = (
        "with dropout at 0, training and evaluation, with and without gradients, and all attention backends give "
        "the same"
    )
    why = (
        "Fused kernels, fast paths and eager code take their masks in different forms; two paths of which one is "
        "tested is how attention bugs ship."
    )
    method = (
        "The same input through training mode, gradients, torch's fast paths and the eager and fused attention of "
        "transformers."
    )
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = "one path ignores a mask, a scale or a bias that the other one heeds"
    remedy = "give both paths the same arguments; compare what each kernel gets at the first layer that differs"
    after = (
        "softmax",
        "scale",
        "mask_sense",
        "causality",
        "bidirectional",
        "grouped_heads",
        "head_merge",
        "roles",
        "padding",
        "softcap",
        "window",
        "empty_rows",
    )

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare all paths of every stream."""
        worst, tolerance, taken = 0.0, 0.0, []
        for stream in subject.streams:
            tokens = bench.tokens(stream, 2)
            keep = _keep(stream, tokens)
            before = stream.run(tokens, keep).tokens
            tolerance = bench.floor(stream)
            for name, path in _paths(subject):
                found = _along(path, stream, tokens, keep, bench)
                if found is None:
                    continue
                taken.append(name)
                error = distance(*(_real(one, keep) for one in (found, before)))
                worst = max(worst, error)
                if error > tolerance:
                    return failed(
                        f"{name} differs by {error:.2g} from evaluation without gradients",
                        measured=error,
                        tolerance=tolerance,
                        case=Case(length=bench.length, stream=stream.name),
                        ways=(name,),
                    )
        if not taken:
            raise NotTestedError("no other path could be taken")
        return passed(
            f"{', '.join(dict.fromkeys(taken))}: the same",
            measured=worst,
            tolerance=tolerance,
            ways=tuple(dict.fromkeys(taken)),
        )


def _keep(stream: Stream, tokens: Tensor) -> Tensor | None:
    """Return a mask with right padding, where one is taken: paths differ most in what they make of it."""
    if not (stream.padding and stream.sequential):
        return None
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    keep[-1, -3:] = False
    return keep


def _real(output: Tensor, keep: Tensor | None) -> Tensor:
    return output if keep is None else output[keep]


def _along(path: Callable[[], Any], stream: Stream, tokens: Tensor, keep: Tensor | None, bench: Bench) -> Tensor | None:
    """Return the output along a path; None where it cannot be taken, or draws random numbers that are no dropout."""
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(bench.seed + seed)
        try:
            with path(), calling("along another path"):
                outputs.append(stream.call(tokens, keep, None).tokens.detach())
        except NotTestedError:
            return None
        if torch.equal(torch.get_rng_state(), torch.manual_seed(bench.seed + seed).get_state()):
            return outputs[0]
    return outputs[0] if torch.equal(*outputs) else None


def _paths(subject: Subject) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "with gradients", lambda: _with_gradients(subject)
    yield "inference mode", torch.inference_mode
    module = subject.copy
    if module is None:
        return
    if not any(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in module.modules()):
        yield "training mode without dropout", lambda: _training(module)
    own = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if own in ("sdpa", "eager") and subject.traits.softcap is None:  # the fused kernel has no soft cap
        other = "eager" if own == "sdpa" else "sdpa"
        yield f"attention implementation {other}", lambda: _implementation(module, own, other)


@contextmanager
def _with_gradients(subject: Subject) -> Iterator[None]:
    parameters = [] if subject.copy is None else list(subject.copy.parameters())
    with torch.enable_grad():
        for parameter in parameters:
            parameter.requires_grad_()
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    with torch.no_grad(), dropout_raised(module, 0.0):
        module.train()
        try:
            yield
        finally:
            module.eval()


@contextmanager
def _implementation(module: Any, own: str, other: str) -> Iterator[None]:
    with torch.no_grad():
        try:
            module.set_attn_implementation(other)
        except (ImportError, ValueError) as error:
            raise NotTestedError(str(error)) from error
        try:
            yield
        finally:
            module.set_attn_implementation(own)
