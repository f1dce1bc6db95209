"""Positions: without them attention is equivariant under permutations; with them it is not."""

from collections.abc import Mapping

import torch
from torch import Tensor

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import traced

__all__ = ["Positions"]


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
        worst, tolerance, said = 0.0, 0.0, []
        for stream in subject.sequences:
            moved = _by_first_layer(subject, stream, bench) if stream.causal else _by_order(stream, bench)
            if moved is None:
                continue
            tolerance = bench.floor(stream)
            knows = moved > tolerance
            if stream.has_positions is False and knows:
                return failed(
                    f"tokens in another order change outputs by {moved:.2g}, though {stream.name} has no positions",
                    measured=moved,
                    tolerance=tolerance,
                )
            if stream.has_positions and not knows:
                return failed(
                    f"tokens of {stream.name} in another order give the same outputs in that order: "
                    "positions have no effect",
                    measured=moved,
                    tolerance=tolerance,
                )
            shifted = _by_shift(subject, stream, bench)
            if shifted > 2 * tolerance:
                return _not_relative(stream, bench, shifted)
            worst = max(worst, moved)
            said.append(
                f"{stream.name} knows the order of its tokens"
                if knows
                else f"{stream.name} is equivariant: it knows no order"
            )
        if not said:
            raise NotTestedError("no attention call could be heard")
        return passed("; ".join(said))


def _by_shift(subject: Subject, stream: Stream, bench: Bench) -> float:
    """Return how far outputs change when all positions of a rotary model move alike; 0 where that says nothing."""
    rotary = getattr(getattr(subject.original, "config", None), "rope_parameters", None)
    if stream.positions is None or not isinstance(rotary, Mapping) or rotary.get("rope_type") != "default":
        return 0.0
    tokens = bench.tokens(stream, 1)
    places = torch.arange(tokens.shape[1])[None] + stream.positions
    return distance(stream.run(tokens, None, places).tokens, stream.run(tokens, None, places + 5).tokens)


def _not_relative(stream: Stream, bench: Bench, shifted: float) -> Outcome:
    return failed(
        f"moving all positions of {stream.name} by 5 changes outputs by {shifted:.2g}, though they are rotary",
        measured=shifted,
        tolerance=2 * bench.floor(stream),
        case=Case(length=bench.length, stream=stream.name),
        ways=("all positions moved alike",),
        meaning="the two numbers of a pair are not turned by the same angle, or queries and keys by different ones",
        remedy="turn halves with frequencies laid out for halves (cat), neighbours with those for neighbours (repeat)",
    )


def _by_order(stream: Stream, bench: Bench) -> float:
    """Return how far outputs of tokens in another order are from outputs in that order."""
    tokens, before = bench.plain(stream)
    order = torch.randperm(tokens.shape[1], generator=bench.generator(5))
    if bool((order == torch.arange(len(order))).all()):
        order = order.flip(0)
    return float((stream.run(tokens[:, order]).tokens - before.tokens[:, order]).abs().max())


def _by_first_layer(subject: Subject, stream: Stream, bench: Bench) -> float | None:
    """Return how far the first attention layer's output at the last token changes when the two before are exchanged."""
    for offset in range(10):  # until the two are not the same token
        tokens = bench.tokens(stream, 1, offset=offset)
        other = tokens.clone()
        other[:, -3:-1] = tokens[:, -3:-1].flip(1)  # near the end, where a window sees them
        if not torch.equal(tokens, other):
            break
    if subject.copy is None:
        return float((stream.run(tokens).tokens[:, -1] - stream.run(other).tokens[:, -1]).abs().max())
    outputs: list[Tensor] = []
    for one in (tokens, other):
        with traced(subject.copy) as trace:
            stream.run(one)
        found = [heard.call.output for heard in trace.calls if heard.call.q_len == heard.call.kv_len == tokens.shape[1]]
        if not found or found[0] is None:
            return None
        outputs.append(found[0][:, :, -1])
    return float((outputs[0] - outputs[1]).abs().max())
