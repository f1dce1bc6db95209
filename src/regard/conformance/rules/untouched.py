"""Untouched: a call in evaluation mode changes neither weights nor inputs nor the random state."""

import torch

from regard.conformance.bench import Bench
from regard.conformance.outcome import Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import calling
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject

__all__ = ["Untouched"]


class Untouched(Rule):
    """Looks at everything that a call could have changed."""

    id = "untouched"
    title = "A call leaves everything as it was"
    law = "a call in evaluation mode changes no weight, no buffer, no input, no mode, and draws no random number"
    why = "State that grows with each call makes results hang on the order of requests."
    method = "Weights, buffers, inputs, modes and the random state before and after a call."
    tolerance = "none: the bits are the same or not"
    meaning = "something is computed in place, a statistic is updated, or a random number is drawn in evaluation mode"
    remedy = (
        "look for operators that end in _, for buffers that are assigned in forward, and for dropout without training="
    )
    after = ("dropout", "determinism")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Call once and compare."""
        for stream in subject.streams:
            tokens = bench.tokens(stream)
            kept = tokens.clone()
            before, state = _state(subject), torch.get_rng_state()
            with torch.no_grad(), calling(f"with {tuple(tokens.shape)} tokens"):
                stream.call(tokens, None, None)
            if not torch.equal(kept, tokens) or _changes_arguments(subject, bench):
                return failed("a call changes its input in place")
            if not torch.equal(state, torch.get_rng_state()):
                return failed("a call in evaluation mode draws random numbers")
            after = _state(subject)
            changed = [name for name in before if not _same(before[name], after.get(name))]
            if changed or set(after) != set(before):
                names = changed or sorted(set(after) ^ set(before))
                return failed(
                    f"a call in evaluation mode changes {', '.join(names[:3])}",
                    measured=float(len(names)),
                    tolerance=0.0,
                )
        return passed(
            "weights, buffers, inputs, modes and the random state are the same after a call",
            ways=("bits before and after",),
        )


def _changes_arguments(subject: Subject, bench: Bench) -> bool:
    """Return whether a function changes its query, key or value."""
    if not isinstance(subject, FunctionSubject):
        return False
    given = subject.draw(bench.generator(), 5)
    kept = [one.clone() for one in given]
    with torch.no_grad(), calling("with 5 tokens"):
        subject.function(*given)
    return not all(torch.equal(one, other) for one, other in zip(given, kept, strict=True))


def _state(subject: Subject) -> dict[str, object]:
    if subject.copy is None:
        return {}
    # A parameter counts its changes in place, so that it need not be copied.
    versions = {name: (one._version, one.data_ptr()) for name, one in subject.copy.named_parameters()}
    buffers = {name: one.detach().clone() for name, one in subject.copy.named_buffers()}
    modes = {f"training mode of {name or 'the model'}": one.training for name, one in subject.copy.named_modules()}
    return {**versions, **buffers, **modes}


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
    return one == other
