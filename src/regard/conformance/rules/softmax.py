"""Softmax: the weights of a query over all keys that it may see sum to 1."""

import torch

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard

__all__ = ["Softmax"]

_EXACT = 1e-9
_ROUGH = 1e-5  # relative, for what a model computes in float32 whatever its parameters are


class Softmax(Rule):
    """Reads a function's weights off its output; recomputes every attention call of a module."""

    id = "softmax"
    title = "The softmax runs over the keys"
    law = "each output is a mean of the values, weighted by a softmax over the keys that the query may see"
    why = (
        "Vaswani et al., arXiv:1706.03762, equation 1. Over any other axis queries compete for keys and the future "
        "leaks into the past."
    )
    method = (
        "Functions: sums of weights read off unit values, and the order of keys. Modules: each attention call is "
        "computed again from its scores and values."
    )
    tolerance = "1e-9 in float64, 1e-5 of the largest output where a module leaves float64"
    meaning = (
        "the softmax runs over the wrong axis, or the weights are changed after it: masked, clamped or rescaled "
        "without normalising again"
    )
    remedy = "use softmax(dim=-1) on scores (…, q_len, kv_len), and mask scores before it instead of weights after it"

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Look at the weights."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    query, key, value = subject.draw(bench.generator(), 5, None if subject.traits.causal else 7)
    if subject.traits.causal:
        query, key, value = subject.draw(bench.generator(), 6)
    weights = subject.weights(query, key)
    error = float((weights.sum(-1) - 1).abs().max())
    if not error <= _EXACT:
        over_queries = float((weights.sum(-2) - 1).abs().max()) <= _EXACT
        seen = "they sum to 1 over the queries instead" if over_queries else f"they sum to 1 ± {error:.2g}"
        return failed(
            f"the weights of a query do not sum to 1 over the keys: {seen}",
            measured=error,
            tolerance=_EXACT,
            case=Case(length=key.shape[2]),
            ways=("weights read off unit values",),
            reproduction=_sums(subject),
        )
    if subject.traits.causal:
        return passed("the weights of each query sum to 1", measured=error, tolerance=_EXACT, ways=("unit values",))
    order = torch.randperm(key.shape[2], generator=bench.generator())
    moved = float(
        (subject.attend(query, key, value) - subject.attend(query, key[:, :, order], value[:, :, order])).abs().max()
    )
    if not moved <= _EXACT:
        return failed(
            f"keys and values in another order change the output by {moved:.2g}", measured=moved, tolerance=_EXACT
        )
    ways = ("sums of weights read off unit values", "keys in another order")
    return passed(
        "the weights of each query sum to 1 over the keys", measured=max(error, moved), tolerance=_EXACT, ways=ways
    )


def _sums(subject: FunctionSubject) -> str:
    return (
        f"{subject.setup()}\nquery, key = torch.randn(2, 1, 1, 5, 16, dtype=torch.float64)\n"
        f"print({subject.name}(query, key, torch.ones_like(key)))  # must be 1 everywhere"
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    worst, number, unseen = 0.0, 0, 0
    for stream in subject.streams:
        trace = bench.trace(stream)
        for layer, axis, shape in trace.wrong_softmax:
            return failed(
                f"{layer} takes a softmax over axis {axis} of {shape}, which is not the axis of the keys",
                case=Case(length=bench.length, stream=stream.name, layer=layer),
                ways=("the axis of each softmax in an attention layer",),
            )
        for heard in trace.calls:
            error = recomputed(heard)
            unseen += error is None
            if error is None:
                continue
            number += 1
            worst = max(worst, error[0])
            if error[0] > _ROUGH:
                return failed(
                    f"{heard.layer}, head {error[1]}: the output is not the mean of the values weighted by the softmax "
                    f"of the scores (off by {error[0]:.2g} of the largest output)",
                    measured=error[0],
                    tolerance=_ROUGH,
                    case=Case(length=bench.length, stream=stream.name, layer=heard.layer, head=error[1]),
                    ways=("each call computed again from its scores and values",),
                )
    if not number:
        raise NotTestedError("no attention call could be heard with its values and output")
    rest = f"; {unseen} could not be seen whole" if unseen else ""
    return passed(
        f"{counted(number, 'attention call')}: outputs equal softmax(scores) · values computed again in float64{rest}",
        measured=worst,
        tolerance=_ROUGH,
        ways=("each call computed again",),
    )


def recomputed(heard: Heard) -> tuple[float, int] | None:
    """Return how far the call is from its own softmax, in units of its largest output, and the worst head; or None."""
    value, output = heard.call.value, heard.call.output
    if value is None or output is None or heard.call.num_heads % value.shape[1]:
        return None
    again = heard.weights @ value.double().repeat_interleave(heard.call.num_heads // value.shape[1], 1)
    difference = (again - output.double()).abs().amax((0, 2, 3)).nan_to_num(nan=torch.inf)
    largest = max(float(again.abs().max()), torch.finfo(torch.float32).tiny)
    return float(difference.max()) / largest, int(difference.argmax())
