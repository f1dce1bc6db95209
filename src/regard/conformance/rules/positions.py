"""Positions: without them attention is equivariant under permutations; with them it is not."""

from collections.abc import Iterator

import torch
from torch import Tensor

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.reproduction import called, written
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.rotary import is_relative
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, traced

__all__ = ["Positions"]

_SHARE = 1e-6  # of the largest score; rounding is far below


class Positions(Rule):
    """Puts tokens into another order."""

    id = "positions"
    title = "Order matters exactly where positions are known"
    law = (
        "without positions, tokens in another order give the same outputs in that order; with positions they do not; "
        "with rotary positions only differences of positions count"
    )
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.5: attention has no order of its own, and positions that are "
        "lost on the way leave a bag of words."
    )
    method = (
        "Bidirectional: the tokens in another order. Causal: two neighbours exchanged, and the first attention "
        "layer's output at the last token. Rotary: all positions moved by the same number."
    )
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = (
        "positions do not reach the model: never added, all equal, or taken modulo the batch; or a function mixes "
        "neighbours that should be a set"
    )
    remedy = (
        "add position embeddings to the tokens, or rotate queries and keys by their positions, before the first "
        "attention call"
    )
    after = ("softmax", "head_merge", "batch")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Permute every stream."""
        if not subject.sequences:
            raise NotApplicableError("its input is no sequence of tokens")
        said = []
        for stream in subject.sequences:
            moved = _moved(subject, stream, bench, bench.length)
            if moved is None:
                continue
            tolerance = bench.floor(stream)
            knows = moved > tolerance or (stream.has_positions is True and _in_scores(subject, stream, bench))
            if stream.has_positions is False and knows:
                return _failed(subject, stream, bench, moved)
            if stream.has_positions and not knows:
                if _insensitive(stream, bench):
                    raise NotTestedError(f"other tokens of {stream.name} change no output, so their order cannot show")
                return _failed(subject, stream, bench, moved)
            shifted = _by_shift(subject, stream, bench, bench.length)
            if shifted > 2 * tolerance:
                return _not_relative(subject, stream, bench, shifted)
            said.append(
                f"{stream.name} knows the order of its tokens"
                if knows
                else f"{stream.name} is equivariant: it knows no order"
            )
        if not said:
            raise NotTestedError("no attention call could be heard")
        return passed("; ".join(said))


def _failed(subject: Subject, stream: Stream, bench: Bench, moved: float) -> Outcome:
    """Find the fewest tokens whose order counts where it must not, or the other way round."""
    tolerance = bench.floor(stream)
    least = 3 if stream.causal else 2
    length = next(
        (
            length
            for length in range(least, bench.length)
            if ((_moved(subject, stream, bench, length) or 0.0) > tolerance) == (stream.has_positions is False)
        ),
        bench.length,
    )
    counts = f"tokens in another order change outputs by {moved:.2g}, though {stream.name} has no positions"
    lost = f"tokens of {stream.name} in another order give the same outputs in that order: positions have no effect"
    return failed(
        f"{lost if stream.has_positions else counts} ({length} tokens are enough)",
        measured=moved,
        tolerance=tolerance,
        case=Case(length=length, stream=stream.name),
        reproduction=None if stream.causal else _reproduction(subject, stream, bench, length),
    )


def _reproduction(subject: Subject, stream: Stream, bench: Bench, length: int) -> str:
    order = _other_order(stream, bench, length).tolist()
    before, after = called(stream, "tokens"), called(stream, "tokens[:, order]")
    wanted = "must not be 0" if stream.has_positions else "must be 0"
    return "\n".join(
        [
            subject.setup(),
            f"tokens, order = {written(bench.tokens(stream, 1, length))}, {order}",
            f"print(({after} - {before}[:, order]).abs().max())  # {wanted}",
        ]
    )


def _insensitive(stream: Stream, bench: Bench) -> bool:
    """Return whether outputs do not change even with other tokens."""
    other = stream.run(bench.tokens(stream, offset=1)).tokens
    return distance(other, bench.plain(stream)[1].tokens) <= bench.floor(stream)


def _by_shift(subject: Subject, stream: Stream, bench: Bench, length: int) -> float:
    """Return how far outputs change when all positions of a rotary model move alike; 0 where that says nothing."""
    if stream.positions is None or not is_relative(getattr(subject.original, "config", None)):
        return 0.0
    tokens = bench.tokens(stream, 1, length)
    places = torch.arange(length)[None] + stream.positions
    return distance(stream.run(tokens, None, places).tokens, stream.run(tokens, None, places + 5).tokens)


def _not_relative(subject: Subject, stream: Stream, bench: Bench, shifted: float) -> Outcome:
    allowed = 2 * bench.floor(stream)
    length = next(length for length in bench.lengths() if _by_shift(subject, stream, bench, length) > allowed)
    return failed(
        f"moving all positions of {stream.name} by 5 changes outputs by {shifted:.2g}, though they are rotary "
        f"({length} tokens are enough)",
        measured=shifted,
        tolerance=allowed,
        case=Case(length=length, stream=stream.name),
        ways=("all positions moved alike",),
        meaning="the two numbers of a pair are not turned by the same angle, or queries and keys by different ones",
        remedy="turn halves with frequencies laid out for halves (cat), neighbours with those for neighbours (repeat)",
    )


def _moved(subject: Subject, stream: Stream, bench: Bench, length: int) -> float | None:
    """Return how far another order of the tokens is from that order of what is looked at; None if nothing is heard.

    Bidirectional: all outputs. Causal: the first attention layer's output at the last token, as later layers know the
    order from the mask.
    """
    order = _other_order(stream, bench, length)
    tokens, other = _exchanged(stream, bench, length)
    if not stream.causal:
        return distance(stream.run(other).tokens, stream.run(tokens).tokens[:, order])
    if subject.copy is None:
        return distance(stream.run(tokens).tokens[:, -1], stream.run(other).tokens[:, -1])
    found = [_first_call(subject, stream, one) for one in (tokens, other)]
    outputs = [None if heard is None else heard.call.output for heard in found]
    if outputs[0] is None or outputs[1] is None:
        return None
    return distance(outputs[0][:, :, -1], outputs[1][:, :, -1])


def _other_order(stream: Stream, bench: Bench, length: int) -> Tensor:
    """Return an order of the tokens; where it is causal, two neighbours near the end, where a window sees them."""
    if stream.causal:
        return torch.tensor([*range(length - 3), length - 2, length - 3, length - 1])
    order = torch.randperm(length, generator=bench.generator(5))
    return order.flip(0) if bool((order == torch.arange(length)).all()) else order


def _exchanged(stream: Stream, bench: Bench, length: int) -> tuple[Tensor, Tensor]:
    """Return tokens, and the same in another order in which they are not the same."""
    for offset in range(10):
        tokens = bench.tokens(stream, 1, length, offset=offset)
        other = tokens[:, _other_order(stream, bench, length)]
        if not torch.equal(tokens, other):
            break
    return tokens, other


def _first_call(subject: Subject, stream: Stream, tokens: Tensor) -> Heard | None:
    """Return the first attention call from the tokens to themselves, or None."""
    assert subject.copy is not None
    with traced(subject.copy) as trace:
        stream.run(tokens)
    length = tokens.shape[1]
    return next((heard for heard in trace.calls if heard.call.q_len == heard.call.kv_len == length), None)


def _in_scores(subject: Subject, stream: Stream, bench: Bench) -> bool:
    """Return whether the first layer's scores know the order, which a sharp softmax may hide from the outputs."""
    if subject.copy is None:
        return False
    found = [_first_call(subject, stream, tokens) for tokens in _exchanged(stream, bench, bench.length)]
    if found[0] is None or found[1] is None:
        return False
    order = _other_order(stream, bench, bench.length)
    rows = slice(-1, None) if stream.causal else slice(None)  # earlier rows of a causal layer lack what was moved on
    for before, after in zip(_products(found[0]), _products(found[1]), strict=True):
        moved = before[:, :, order][..., order][:, :, rows]
        seen = moved.isfinite() & after[:, :, rows].isfinite()
        largest = float(torch.where(seen, moved, 0.0).abs().max())
        change = torch.where(seen, moved - after[:, :, rows], 0.0).abs().max()
        if float(change) > _SHARE * largest:
            return True
    return False


def _products(heard: Heard) -> Iterator[Tensor]:
    """Iterate over the scores, and the products of queries and keys where these are known: a soft cap hides them."""
    yield heard.scores
    if heard.query is not None and heard.key is not None:
        group = heard.query.shape[1] // heard.key.shape[1]
        yield heard.query.double() @ heard.key.double().repeat_interleave(group, 1).mT
