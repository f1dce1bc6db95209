"""Padding invariance: a sequence alone, padded on the right, padded on the left is the same sequence."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.locate import Place, first_difference
from regard.conformance.outcome import Case, NotApplicableError, Outcome, failed, passed
from regard.conformance.reproduction import masked
from regard.conformance.rule import Rule
from regard.conformance.stream import Output, Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Trace, traced

__all__ = ["Padding"]


@dataclass(frozen=True)
class _Padded:
    """One sequence alone and inside of padding."""

    alone: Tensor
    tokens: Tensor
    keep: Tensor
    positions: Tensor | None
    side: str


class Padding(Rule):
    """Compares each sequence alone with itself inside of padding, and changes what the padding holds."""

    id = "padding"
    title = "Padding changes nothing"
    law = "a sequence gives the same alone, padded on the right and padded on the left, whatever the padding holds"
    why = (
        "Serving pads on the left, training on the right; a model that sees padding or shifts positions is another "
        "model in each batch."
    )
    method = (
        "Alone against both paddings (positions as the model counts them), the same with other tokens in the "
        "padding, and outputs that hang on the whole sequence."
    )
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = "padding is attended: the mask does not reach every layer"
    remedy = (
        "pass the mask of real tokens to every attention call, and position_ids = cumsum(mask) - 1 with left padding"
    )
    after = ("dropout", "softmax", "mask_sense", "causality", "head_merge", "empty_rows", "batch")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Pad every stream that can be padded."""
        streams = [stream for stream in subject.sequences if stream.padding]
        if not streams:
            raise NotApplicableError("it takes no mask of real tokens")
        worst, tolerance, sides, left_out = 0.0, 0.0, [], []
        for stream in streams:
            for side in ("right", "left"):
                if side == "left" and not stream.left_padding:
                    left_out.append(stream.name)
                    continue
                for other in (False,) if bench.fast else (False, True):
                    case = _padded(stream, bench, side, bench.length, other)
                    if case is None:
                        continue
                    sides.append(f"{side}, other tokens in it" if other else side)
                    error, allowed = bench.settled(stream, partial(_error, stream, case))
                    worst, tolerance = max(worst, error), max(tolerance, allowed)
                    if error > allowed:
                        return _failed(subject, bench, stream, side, other, error)
        rest = (
            f"; not on the left of {' and '.join(left_out)}, whose absolute positions cannot be corrected"
            if left_out
            else ""
        )
        return passed(
            f"padding on the {' and the '.join(sorted({one.split(',')[0] for one in sides}))} changes nothing{rest}",
            measured=worst,
            tolerance=tolerance,
            ways=tuple(dict.fromkeys(sides)),
        )


def _padded(stream: Stream, bench: Bench, side: str, length: int, other: bool, padding: int = 3) -> _Padded | None:
    """Return a sequence and its padded form; None where padding with other tokens cannot mean anything."""
    tokens = bench.tokens(stream, 1, length)
    fill = bench.tokens(stream, 1, padding, offset=7)
    if not other:
        fill = torch.full_like(fill, stream.padding_token) if fill.dtype == torch.int64 else torch.zeros_like(fill)
    real = torch.ones(1, length, dtype=torch.bool)
    hidden = torch.zeros(1, padding, dtype=torch.bool)
    parts = (tokens, fill) if side == "right" else (fill, tokens)
    keep = torch.cat((real, hidden) if side == "right" else (hidden, real), 1)
    # A model that counts positions itself, from the padding token, must do so; others are told them.
    derives = bool(stream.positions)
    explicit = (side == "left" and not derives) or (other and derives)
    positions = stream.explicit(keep) if explicit else None
    return _Padded(tokens, torch.cat(parts, 1), keep, positions, side)


def _error(stream: Stream, case: _Padded) -> float:
    alone = stream.run(case.alone)
    inside = stream.run(case.tokens, case.keep, case.positions)
    difference = (inside.tokens[:, case.keep[0]] - alone.tokens).abs().max()
    return max(float(difference.nan_to_num(nan=torch.inf)), _elsewhere(alone, inside, case.side))


def _elsewhere(alone: Output, inside: Output, side: str) -> float:
    """Return the difference of what hangs on the whole sequence.

    A classifier that reads the first token must be padded on the right, so it is not asked about the left.
    """
    if alone.other is None or inside.other is None or (side == "left" and alone.other.ndim < 3):
        return 0.0
    return float((alone.other - inside.other).abs().max().nan_to_num(nan=torch.inf))


def _failed(subject: Subject, bench: Bench, stream: Stream, side: str, other: bool, error: float) -> Outcome:
    """Find the shortest sequence, the least padding, and where it begins."""
    tolerance = bench.floor(stream)
    smallest = None
    for length in bench.lengths():
        for padding in (1, 3):
            case = _padded(stream, bench, side, length, other, padding)
            if smallest is None and case is not None:
                found, allowed = bench.settled(stream, partial(_error, stream, case))
                smallest = case if found > allowed else None
    case = smallest or _padded(stream, bench, side, bench.length, other)
    assert case is not None
    place, attended = _where(subject, stream, case)
    length = case.alone.shape[1]
    where = Case(length=length, stream=stream.name)
    if place is not None:
        where = replace(where, layer=place.layer, head=place.head, query=place.query)
    begins = "no attention call that could be heard differs" if place is None else f"it begins in {place}"
    seen = f"{place.doing('put')} weight on padding" if place is not None and attended else begins
    return failed(
        f"{length} tokens with {case.tokens.shape[1] - length} of padding on the {side} give something else than alone "
        f"(by {error:.2g}): {seen}",
        measured=error,
        tolerance=tolerance,
        case=where,
        ways=(side,),
        reproduction=masked(subject, stream, case.tokens, case.keep),
        meaning=None
        if attended or side == "right"
        else "positions count the padding: the same token stands elsewhere than alone",
        remedy=None
        if attended or side == "right"
        else "count positions over real tokens: position_ids = cumsum(mask) - 1, and use them",
    )


def _where(subject: Subject, stream: Stream, case: _Padded) -> tuple[Place | None, bool]:
    """Return where it begins, and whether padding has weight there."""
    if subject.copy is None:
        return None, False
    with traced(subject.copy) as alone:
        stream.run(case.alone)
    with traced(subject.copy) as inside:
        stream.run(case.tokens, case.keep, case.positions)
    attended = _attended(inside, case.keep)
    if attended is not None:
        return attended, True
    real = case.keep[0]

    def rows(output: Tensor) -> Tensor:
        return output[:, :, real] if output.shape[2] == len(real) else output

    return first_difference(alone, inside, lambda output: output, rows), False


def _attended(inside: Trace, keep: Tensor) -> Place | None:
    """Return the first layer, its heads and a real token whose weights on padding are not 0."""
    real = keep[0]
    for heard in inside.calls:
        if heard.call.kv_len != len(real):
            continue
        rows = real if heard.call.q_len == len(real) else torch.ones(heard.call.q_len, dtype=torch.bool)
        weight = heard.weights[0][:, rows][..., ~real].sum(-1)
        heads = (weight > 0).any(-1).nonzero()[:, 0].tolist()
        if heads:
            return Place(heard.layer, tuple(heads), heard.call.num_heads, int(weight[heads[0]].argmax()))
    return None
