"""Bidirectional: where nothing is causal, each token can influence each other one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.reproduction import changed_token
from regard.conformance.rule import Rule
from regard.conformance.sensitivity import influence
from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, Trace, traced

__all__ = ["Bidirectional"]

_EXACT = 1e3  # in units of the type's rounding
_SMALL = 0.05


@dataclass(frozen=True)
class _Unseen:
    """A token whose change does not reach an output."""

    changed: int
    query: int
    size: float


class Bidirectional(Rule):
    """Looks for layers that hide one side of every token, and changes each token in turn."""

    id = "bidirectional"
    title = "Each token can influence each other one"
    law = "where a subject is bidirectional, the output at each position depends on the tokens on both of its sides"
    why = (
        "Devlin et al., BERT, arXiv:1810.04805: an encoder reads both sides. One that is causal by mistake, as a fused "
        "kernel that is causal by default makes it, trains and answers, and no output shows what it did not read."
    )
    method = (
        "Which keys each layer hides: none may hide all later tokens, or all earlier ones. And each token is changed "
        "in turn (three of them when fast): all outputs must change, or with windows the neighbours' ones."
    )
    tolerance = "a layer hides a key or not; an output changes by more than the rounding of the type"
    meaning = (
        "a causal mask or flag reaches a layer of an encoder: is_causal is left at True, or a decoder's mask is reused"
    )
    remedy = (
        "give the layers of an encoder is_causal=False and the mask of real tokens alone; if it is meant to be causal, "
        "say so with assume={'causal': True}"
    )
    after = ("softmax", "mask_sense", "head_merge", "batch")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Look into the layers, and perturb every stream that is not causal."""
        streams = [stream for stream in subject.streams if not stream.causal]
        if not streams:
            raise NotApplicableError("it is causal")
        least, ways, layers = float("inf"), [], 0
        for stream in streams:
            calls = [] if subject.copy is None else _calls(bench.trace(stream), _length(stream, bench))
            layers += len(calls)
            one_sided = _one_sided(calls)
            if one_sided is not None:
                return _failed_inside(subject, bench, stream, *one_sided)
            if calls:
                ways.append("keys that each layer hides")
            if stream.sequential:
                unseen = _unseen(subject, stream, bench, bench.length)
                least = min(least, unseen.size)
                if unseen.size <= _rounding(stream, bench):
                    if calls and not any(bool(_hidden(heard).any()) for heard in calls):
                        raise NotTestedError(
                            "no layer hides a token, and yet some outputs do not depend on some tokens: its softmax "
                            "has no other weight than 0 and 1, or its attention adds nothing"
                        )
                    return _failed(subject, bench, stream)
                ways.append("perturbation of each token")
        if not ways:
            raise NotTestedError("no attention call over its tokens could be heard")
        inside = f"{counted(layers, 'attention call')} hide{'s' if layers == 1 else ''} no side" if layers else ""
        outside = "every token that was changed reaches every output" if "perturbation of each token" in ways else ""
        return passed("; ".join(filter(None, (outside, inside))), ways=tuple(dict.fromkeys(ways)))


def _length(stream: Stream, bench: Bench) -> int:
    """Return how many tokens the layers of ``stream`` work on."""
    return bench.length if stream.sequential else bench.plain(stream)[1].tokens.shape[1]


def _calls(trace: Trace, length: int) -> list[Heard]:
    """Return the calls from the tokens of a stream to themselves."""
    return [heard for heard in trace.calls if heard.call.q_len == heard.call.kv_len == length]


def _hidden(heard: Heard) -> Tensor:
    """Return which keys each query of a call does not see in any head of any sequence, (len, len)."""
    return heard.hidden.flatten(0, 1).all(0)


def _one_sided(calls: Sequence[Heard]) -> tuple[str, str] | None:
    """Return the first layer that hides one side of every token and not the other, and which side."""
    for heard in calls:
        hidden = _hidden(heard)
        length = len(hidden)
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        for side, this, other in (("later", later, later.mT), ("earlier", later.mT, later)):
            if length > 1 and bool(hidden[this].all()) and not bool(hidden[other].all()):
                return heard.layer, side
    return None


def _failed_inside(subject: Subject, bench: Bench, stream: Stream, layer: str, side: str) -> Outcome:
    """Report a layer that hides a side; two tokens show it where it does so by itself."""
    assert subject.copy is not None
    length = _length(stream, bench)
    for shorter in bench.lengths() if stream.sequential else ():
        with traced(subject.copy) as trace:
            stream.run(bench.tokens(stream, 1, shorter))
        if _one_sided(_calls(trace, shorter)) == (layer, side):
            length = shorter
            break
    query, key = (0, 1) if side == "later" else (1, 0)
    return failed(
        f"{layer} hides all {side} tokens from each token, though {stream.name} is bidirectional",
        case=Case(length=length, stream=stream.name, layer=layer, query=query, key=key),
        ways=("keys that each layer hides",),
    )


def _unseen(subject: Subject, stream: Stream, bench: Bench, length: int) -> _Unseen:
    """Return the output that a changed token reaches least; on small tokens if none is seen on those of usual size."""
    found = _least(subject, influence(stream, bench, length))
    if found.size > _rounding(stream, bench):
        return found
    return max(found, _least(subject, influence(stream, bench, length, size=_SMALL)), key=lambda one: one.size)


def _least(subject: Subject, influence: tuple[list[int], Tensor]) -> _Unseen:
    places, change = influence
    length = change.shape[1]
    window = subject.traits.window
    reach = 1 if window is not None and window <= length else length
    wanted = (torch.arange(length) - torch.tensor(places)[:, None]).abs() <= reach
    change = change.masked_fill(~wanted, torch.inf)
    row, query = divmod(int(change.argmin()), length)
    return _Unseen(places[row], query, float(change[row, query]))


def _rounding(stream: Stream, bench: Bench) -> float:
    """Return what rounding alone may change in an output."""
    outputs = bench.plain(stream)[1].tokens
    return _EXACT * torch.finfo(outputs.dtype).eps * max(float(outputs.abs().max()), 1.0)


def _failed(subject: Subject, bench: Bench, stream: Stream) -> Outcome:
    """Find the shortest sequence with a token that does not reach an output."""
    tolerance = _rounding(stream, bench)
    length, unseen = next(
        (length, found)
        for length in bench.lengths()
        if (found := _unseen(subject, stream, bench, length)).size <= tolerance
    )
    tokens = bench.tokens(stream, 1, length)
    return failed(
        f"{subject.name}: token {unseen.changed} does not change the output at {unseen.query} ({length} tokens are "
        f"enough), though {stream.name} is bidirectional",
        measured=unseen.size,
        tolerance=tolerance,
        case=Case(length=length, stream=stream.name, query=unseen.query, key=unseen.changed),
        ways=("perturbation of each token",),
        reproduction=changed_token(subject, stream, tokens, unseen.changed, looked_at=unseen.query),
    )
