"""Packed = alone: sequences that share a row do not notice each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regard.conformance.bench import Bench, distance
from regard.conformance.documents import numbered
from regard.conformance.locate import Place, first_difference
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.reproduction import called, written
from regard.conformance.rule import Rule
from regard.conformance.stream import Packing, Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Trace, traced

__all__ = ["Packed"]


@dataclass(frozen=True)
class _Rows:
    """Sequences one after the other: in the first row as they come, in the second, if there is one, the last first."""

    tokens: Tensor
    documents: Tensor
    sizes: tuple[int, ...]
    orders: tuple[tuple[int, ...], ...]

    def places(self, row: int) -> Iterator[tuple[int, slice]]:
        """Iterate over the sequences of a row: which one, and where it stands."""
        start = 0
        for which in self.orders[row]:
            yield which, slice(start, start + self.sizes[which])
            start += self.sizes[which]

    def alone(self, which: int) -> Tensor:
        """Return one of the sequences, (1, len)."""
        return self.tokens[:1, next(place for one, place in self.places(0) if one == which)]


class Packed(Rule):
    """Compares each sequence alone with itself in a row of several."""

    id = "packed"
    title = "Packed sequences do not notice each other"
    law = "a sequence gives the same alone and packed with others in one row, whatever stands before and after it"
    why = (
        "Krell et al., arXiv:2107.02027: packing must change nothing but the padding. Sequences that see each other, "
        "or positions that run on, raise no error, and the model learns from neighbours that it never has again."
    )
    method = (
        "Rows of several sequences, in two orders, against each sequence alone, through every way that the subject "
        "has: a mask of blocks, offsets, a mask of four axes with positions that begin anew, or such positions by "
        "themselves where transformers makes the masks of a causal model (without any mask and without a cache)."
    )
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = "a layer does not get the mask of blocks or the offsets, or takes them for something else"
    remedy = (
        "hand a mask of blocks, or offsets, to every attention call; with transformers leave attention_mask=None and "
        "use_cache=False, else position_ids that begin anew separate nothing"
    )
    after = (
        "dropout",
        "softmax",
        "mask_sense",
        "causality",
        "bidirectional",
        "window",
        "head_merge",
        "empty_rows",
        "softcap",
        "batch",
        "positions",
        "padding",
        "cache",
        "paths",
    )

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Pack every stream in each of its ways."""
        streams = [stream for stream in subject.sequences if stream.packings]
        if not streams:
            raise NotApplicableError(_lacking(subject.sequences) or "its input is no sequence of tokens")
        worst, tolerance, ways, number = 0.0, 0.0, [], 0
        for stream in streams:
            tolerance = bench.floor(stream)
            for packing in stream.packings:
                sizes = _sizes(bench, packing)
                error = _error(stream, packing, _rows(stream, bench, sizes))
                if not error <= tolerance:
                    return _failed(subject, bench, stream, packing, sizes, error)
                ways.append(packing.name)
                worst, number = max(worst, error), len(sizes)
            _noticeable(stream, bench)
        lacking = _lacking(subject.sequences)
        return passed(
            f"each of {number} sequences in a row gives what it gives alone{f' ({lacking})' if lacking else ''}",
            measured=worst,
            tolerance=tolerance,
            ways=tuple(dict.fromkeys(ways)),
        )


def _lacking(streams: Sequence[Stream]) -> str:
    """Return the ways that streams do not have, and why."""
    lacking = [stream for stream in streams if stream.no_packing]
    if len(streams) == 1:
        return lacking[0].no_packing if lacking else ""
    return "; ".join(f"{stream.name}: {stream.no_packing}" for stream in lacking)


def _sizes(bench: Bench, packing: Packing) -> tuple[int, ...]:
    """Return the lengths of the sequences: unequal, and the longest longer than a short window."""
    sizes = (4, 2) if bench.fast else (5, 3, 2)
    return tuple(size if packing.longest is None else min(size, packing.longest) for size in sizes)


def _rows(stream: Stream, bench: Bench, sizes: Sequence[int], *, both: bool = True) -> _Rows:
    """Return rows of sequences; their tokens are the same for the same lengths."""
    parts = bench.tokens(stream, 1, sum(sizes)).split(list(sizes), 1)
    orders = [tuple(range(len(sizes)))]
    if both:
        orders.append(tuple(reversed(orders[0])))
    tokens = torch.cat([torch.cat([parts[which] for which in order], 1) for order in orders])
    documents = numbered(*([sizes[which] for which in order] for order in orders))
    return _Rows(tokens, documents, tuple(sizes), tuple(orders))


def _error(stream: Stream, packing: Packing, rows: _Rows) -> float:
    """Return how far any sequence is from itself alone."""
    packed = stream.pack(packing, rows.tokens, rows.documents).tokens
    alone = [stream.run(rows.alone(which)).tokens[0] for which in range(len(rows.sizes))]
    return max(
        distance(packed[row, place], alone[which])
        for row in range(len(rows.orders))
        for which, place in rows.places(row)
    )


def _noticeable(stream: Stream, bench: Bench) -> None:
    """Raise ``NotTestedError`` if sequences do not notice each other even where nothing keeps them apart."""
    tokens, together = bench.plain(stream)
    half = tokens.shape[1] // 2
    later = stream.run(tokens[:1, half:]).tokens
    if distance(together.tokens[:1, half:], later) <= bench.floor(stream):
        raise NotTestedError(
            f"a sequence of {stream.name} gives the same behind another one even where nothing keeps them apart, so "
            "that nothing could be seen"
        )


def _failed(
    subject: Subject, bench: Bench, stream: Stream, packing: Packing, sizes: tuple[int, ...], error: float
) -> Outcome:
    """Find the shortest sequences, and where it begins."""
    tolerance = bench.floor(stream)
    rows = next(
        (
            found
            for pair in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 3))
            if not _error(stream, packing, found := _rows(stream, bench, pair, both=False)) <= tolerance
        ),
        _rows(stream, bench, sizes),
    )
    place, seen = _where(subject, stream, packing, rows)
    mixed = _mixed(stream, packing, bench, rows)
    inside = place is not None and not seen  # attention was heard, and it keeps them apart
    case = Case(length=rows.tokens.shape[1], stream=stream.name)
    if place is not None:
        case = replace(case, layer=place.layer, head=place.head, query=place.query)
    lengths = " and ".join(map(str, rows.sizes))
    begins = "" if place is None else f": it begins in {place}"
    if place is not None and seen:
        begins = f": {place.doing('put')} weight on another sequence"
    return failed(
        f"sequences of {lengths} tokens in one row ({packing.name}) give something else than alone, by {error:.2g}"
        f"{begins}",
        measured=error,
        tolerance=tolerance,
        case=case,
        ways=(packing.name,),
        reproduction=_reproduction(subject, stream, packing, rows),
        meaning=(_OUTSIDE if mixed else _POSITIONS) if inside else None,
        remedy=(_NO_PACKING if mixed else _BEGIN_ANEW) if inside else None,
    )


def _mixed(stream: Stream, packing: Packing, bench: Bench, rows: _Rows) -> bool:
    """Return whether other tokens in one sequence change what another one gives."""
    others = bench.tokens(stream, 1, rows.tokens.shape[1], offset=1)
    before = stream.pack(packing, rows.tokens, rows.documents).tokens
    for _, place in rows.places(0):
        changed = rows.tokens.clone()
        changed[0, place] = others[0, place]
        rest = rows.documents[0] != rows.documents[0, place.start]
        after = stream.pack(packing, changed, rows.documents).tokens
        if not distance(after[0, rest], before[0, rest]) <= bench.floor(stream):
            return True
    return False


_OUTSIDE = (
    "no sequence has weight on another one, and yet they mix: a convolution, a pooling or neighbours that are put "
    "together before or between the attention calls do it"
)
_NO_PACKING = "do not pack for this model, or keep sequences apart in that step too"
_POSITIONS = "no sequence sees another one, so positions run on through the row instead of beginning anew"
_BEGIN_ANEW = "give each sequence the positions that it has alone, counted from its own first token"


def _where(subject: Subject, stream: Stream, packing: Packing, rows: _Rows) -> tuple[Place | None, bool]:
    """Return where it begins, and whether another sequence has weight there."""
    if subject.copy is None:
        return None, False
    with traced(subject.copy) as inside:
        stream.pack(packing, rows.tokens, rows.documents)
    seen = _seen(inside, rows)
    if seen is not None:
        return seen, True
    for which, place in rows.places(0):
        with traced(subject.copy) as alone:
            stream.run(rows.alone(which))
        found = first_difference(alone, inside, lambda output: output, _picked(rows, place))
        if found is not None:
            return replace(found, query=place.start + found.query), False
    return None, False


def _picked(rows: _Rows, place: slice) -> Callable[[Tensor], Tensor]:
    length = rows.tokens.shape[1]
    return lambda output: output[:1, :, place] if output.shape[2] == length else output[:1]


def _seen(inside: Trace, rows: _Rows) -> Place | None:
    """Return the first layer, its heads and a token whose weights on another sequence are not 0."""
    documents = rows.documents[0]
    other = documents[:, None] != documents
    for heard in inside.calls:
        if (heard.call.q_len, heard.call.kv_len) != tuple(other.shape):
            continue
        weight = heard.weights[0].masked_fill(~other, 0.0).sum(-1)
        heads = (weight > 0).any(-1).nonzero()[:, 0].tolist()
        if heads:
            return Place(heard.layer, tuple(heads), heard.call.num_heads, int(weight[heads[0]].argmax()))
    return None


def _reproduction(subject: Subject, stream: Stream, packing: Packing, rows: _Rows) -> str:
    together = packing.text.replace("{tokens}", "tokens")
    alone = called(stream, "part")
    return "\n".join(
        [
            subject.setup(),
            f"sizes = {list(rows.sizes)}",
            f"tokens = {written(rows.tokens[:1])}",
            *packing.lines,
            f"packed = {together}",
            f"alone = torch.cat([{alone} for part in tokens.split(sizes, 1)], 1)",
            "print((packed - alone).abs().max())  # must be 0",
        ]
    )
