"""Causality: a later token never changes an earlier output."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.locate import Place, first_difference
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.reproduction import changed_token
from regard.conformance.rule import Rule
from regard.conformance.sensitivity import dependence, different, influence
from regard.conformance.stream import Output, Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import traced

__all__ = ["Causality", "leaks"]


@dataclass(frozen=True)
class _Leak:
    stream: Stream
    length: int
    changed: int
    query: int
    size: float


class Causality(Rule):
    """Changes each token in turn, and asks gradients."""

    id = "causality"
    title = "A later token never changes an earlier output"
    law = "the output at a position depends on the tokens up to it and on no later one"
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.2.3: what sees the token that it is to predict learns to copy it, "
        "trains to a wonderful loss and generates nonsense."
    )
    method = (
        "Each token is changed in turn (three of them when fast) and all earlier outputs compared; and the gradient of "
        "some outputs by all later tokens."
    )
    tolerance = "twice the error of a float32 run against the float64 one; gradients: that share of the largest"
    meaning = "the causal mask is missing, shifted by one, or does not reach this layer's kernel"
    remedy = (
        "pass is_causal=True (q_len = kv_len) or a mask with True for j <= i to every self-attention call of the "
        "decoder"
    )
    after = ("softmax", "mask_sense", "head_merge", "softcap")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Perturb and differentiate every causal stream."""
        streams = [stream for stream in subject.sequences if stream.causal]
        if not streams:
            raise NotApplicableError("it is not causal")
        worst, tolerance, ways = 0.0, 0.0, ["perturbation of each token"]
        for stream in streams:
            tolerance = bench.floor(stream)
            leak = leaks(stream, bench, bench.length, tolerance)
            if leak is None:
                raise NotTestedError(f"no token of {stream.name} changes any output, so a leak could not be seen")
            if leak.size > tolerance:
                return self._failed(subject, bench, stream, tolerance)
            worst = max(worst, leak.size)
            if stream.padding:
                masked = _masked(stream)
                under = leaks(masked, bench, bench.length, tolerance)
                if under is not None and under.size > tolerance:
                    return self._failed(subject, bench, masked, tolerance)
                ways.append("perturbation under a mask of real tokens")
            gradient = self._by_gradient(subject, bench, stream)
            if gradient is None:
                continue
            ways.append("gradients")
            if gradient[2] > _share(bench, stream):
                query, key, size = gradient
                case = Case(length=bench.length, stream=stream.name, query=query, key=key)
                return failed(
                    f"the output at position {query} has a gradient by the later token {key} "
                    f"({size:.2g} of the largest)",
                    measured=size,
                    tolerance=_share(bench, stream),
                    case=case,
                    ways=("gradients",),
                )
        summary = f"no earlier output changes at {bench.length} tokens of {_names(streams)}"
        return passed(summary, measured=worst, tolerance=tolerance, ways=tuple(dict.fromkeys(ways)))

    def _by_gradient(self, subject: Subject, bench: Bench, stream: Stream) -> tuple[int, int, float] | None:
        """Return (query, key, share of the largest gradient) of the largest forbidden gradient, or None."""
        length = bench.length
        rows = [0, length // 2] if bench.fast else [0, 1, length // 2, length - 2]
        try:
            found = dependence(subject, stream, bench.tokens(stream, 1), [*rows, length - 1])
        except NotTestedError:
            return None
        largest = float(found.max())
        if not largest > 0:
            return None
        later = torch.arange(length) > torch.tensor([*rows, length - 1])[:, None]
        forbidden = found.masked_fill(~later, 0.0)
        at, key = divmod(int(forbidden.argmax()), length)
        return [*rows, length - 1][at], key, float(forbidden.max()) / largest

    def _failed(self, subject: Subject, bench: Bench, stream: Stream, tolerance: float) -> Outcome:
        """Find the shortest sequence that leaks, and the layer and head where it begins."""
        leak = next(
            found for n in bench.lengths() if (found := leaks(stream, bench, n, tolerance)) and found.size > tolerance
        )
        place = _place(subject, bench, leak)
        case = Case(
            length=leak.length,
            stream=stream.name,
            layer=None if place is None else place.layer,
            head=None if place is None else place.head,
            query=leak.query if place is None else place.query,
            key=leak.changed,
        )
        where = f"{subject.name} leaks" if place is None else place.doing("leak")
        return failed(
            f"{where} token {leak.changed} into position {case.query} ({leak.length} tokens are enough); "
            f"the output there changes by {leak.size:.2g}",
            measured=leak.size,
            tolerance=tolerance,
            case=case,
            ways=("perturbation of each token",),
            reproduction=changed_token(subject, stream, bench.tokens(stream, 1, leak.length), leak.changed),
            meaning=None if place or subject.copy is None else _OUTSIDE,
        )


_OUTSIDE = (
    "no attention call that could be heard leaks it: a convolution, a norm over the sequence, a pooling or a "
    "projection across tokens does, or attention that PyTorch's kernels do not compute"
)


def _masked(stream: Stream) -> Stream:
    """Return ``stream`` called with a mask that says that every token is real: some make their causal mask of it."""

    def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
        return stream.call(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), positions)

    mask = stream.mask_text.replace("{mask}", "torch.ones({tokens}.shape[:2], dtype=torch.bool)")
    return replace(stream, name=f"{stream.name} with a mask", call=call, text=stream.text.replace("{keep}", mask))


def leaks(stream: Stream, bench: Bench, length: int, tolerance: float) -> _Leak | None:
    """Return the strongest leak at ``length``, its size maybe below the tolerance; None if no token has any effect."""
    places, change = influence(stream, bench, length)
    if not float(change.max()) > tolerance:
        return None
    earlier = torch.arange(length) < torch.tensor(places)[:, None]
    forbidden = change.masked_fill(~earlier, -1.0)
    row, query = divmod(int(forbidden.argmax()), length)
    return _Leak(stream, length, places[row], query, max(float(forbidden.max()), 0.0))


def _place(subject: Subject, bench: Bench, leak: _Leak) -> Place | None:
    """Return the first layer and head that leak; ``query`` is a position of the sequence."""
    if subject.copy is None:
        return None
    tokens = bench.tokens(leak.stream, 1, leak.length)
    other = tokens.clone()
    other[0, leak.changed] = different(
        tokens[0, leak.changed], bench.tokens(leak.stream, 1, leak.length, offset=1)[0, leak.changed]
    )
    with traced(subject.copy) as one:
        leak.stream.run(tokens)
    with traced(subject.copy) as two:
        leak.stream.run(other)
    return first_difference(
        one, two, lambda output: output[:, :, : leak.changed], wanted=lambda heard: heard.call.q_len == leak.length
    )


def _share(bench: Bench, stream: Stream) -> float:
    """Return the share of the largest gradient that rounding may leave where there is none."""
    largest = float(bench.plain(stream)[1].tokens.abs().max())
    return max(bench.floor(stream) / largest, 1e-9)


def _names(streams: list[Stream]) -> str:
    return " and ".join(stream.name for stream in streams)
