"""Head merge: head i fills columns i · head_dim to (i + 1) · head_dim of what the output projection gets."""

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import HEADS, FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, Made, Trace

__all__ = ["HeadMerge"]

_EXACT = 1e-9


class HeadMerge(Rule):
    """Follows the heads' outputs into the output projection."""

    id = "head_merge"
    title = "Heads are merged in order"
    law = "the output projection gets, for each token, the outputs of its heads one after the other"
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.2.2: Concat(head_1, …). Reshaping without the transpose mixes "
        "tokens; shapes agree and nothing raises."
    )
    method = (
        "Functions: one head changed at a time. Modules: the input of the output projection against the kernel's "
        "output."
    )
    tolerance = "1e-9 of the largest output: the numbers are copied, not computed"
    meaning = (
        "(batch, heads, len, head_dim) was reshaped to (batch, len, width) without transpose(1, 2), or heads were "
        "split by another rule than they were merged"
    )
    remedy = "write output.transpose(1, 2).reshape(batch, length, heads * head_dim)"
    after = ("softmax",)

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Follow the heads."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    query, key, value = subject.draw(bench.generator(), 5, batch=2)
    before = subject.attend(query, key, value)
    for head in range(HEADS):
        changed = [one.clone() for one in (query, key, value)]
        for one in changed:
            one[:, head] *= -1.5
        moved = (subject.attend(*changed) - before).abs().amax((0, 2, 3))
        others = [other for other in range(HEADS) if other != head and float(moved[other]) > _EXACT]
        if others or not float(moved[head]) > _EXACT:
            return failed(
                f"changing head {head} changes the output of heads {others}, and "
                f"of its own by {float(moved[head]):.2g}",
                measured=max((float(moved[other]) for other in others), default=None),
                tolerance=_EXACT,
                case=Case(head=head),
            )
    return passed(
        "changing one head changes the output of that head alone",
        measured=0.0,
        tolerance=_EXACT,
        ways=("one head at a time",),
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    calls, why_not = 0, "no attention call could be heard with its output"
    for stream in subject.streams:
        trace = bench.trace(stream)
        for heard in trace.calls:
            verdict = _merged(trace, heard)
            if verdict is None:
                why_not = f"{heard.layer}: something stands between the heads and the next projection"
                continue
            calls += 1
            if not verdict:
                return failed(
                    f"{heard.layer}: the output projection gets the heads' numbers in another order",
                    case=Case(length=bench.length, stream=stream.name, layer=heard.layer),
                    ways=("input of the output projection against the kernel's output",),
                )
    if not calls:
        raise NotTestedError(why_not)
    projections = counted(calls, "output projection")
    return passed(f"heads in order at the input of {projections}", ways=("input of the output projection",))


def _merged(trace: Trace, heard: Heard) -> bool | None:
    """Return whether the next projection gets the heads in order; None if it does not get their numbers at all."""
    output = heard.call.output
    if output is None:
        return None
    wanted = output.transpose(1, 2).flatten(2)
    for made in trace.after(heard):
        if made.given is not None and made.given.numel() == wanted.numel():
            return _equal(made, wanted)
    return None


def _equal(made: Made, wanted: Tensor) -> bool | None:
    assert made.given is not None
    width = wanted.shape[2]
    if made.given.shape[-1] != width:
        return None
    tolerance = _EXACT * max(float(wanted.abs().max()), torch.finfo(torch.float64).tiny)
    for order in (wanted, wanted.transpose(0, 1)):
        if float((made.given.reshape(-1, width) - order.reshape(-1, width)).abs().max()) <= tolerance:
            return True
    sorted_given, sorted_wanted = (one.flatten().sort().values for one in (made.given, wanted))
    return False if float((sorted_given - sorted_wanted).abs().max()) <= tolerance else None
