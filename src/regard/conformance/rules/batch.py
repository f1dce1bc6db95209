"""Batch invariance: a sequence does not notice which others are computed with it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from regard.conformance.bench import Bench, distance
from regard.conformance.locate import Place, first_difference
from regard.conformance.outcome import Case, Outcome, failed, passed
from regard.conformance.reproduction import called, written
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import traced

__all__ = ["Batch"]


class Batch(Rule):
    """Compares each sequence alone, inside of a batch, and inside of the batch in another order."""

    id = "batch"
    title = "A sequence does not notice its batch"
    law = "each sequence gives the same alone, in a batch, and at another place of the batch"
    why = (
        "A user's answer must not hang on who else asked; and a wrong axis (batch for sequence) is exactly this fault."
    )
    method = (
        "The first sequence alone against the batch; the batch in reverse order; and a padded one with its mask, alone "
        "against a batch of other masks."
    )
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = (
        "an axis is mistaken: batch and sequence are swapped (batch_first), heads are folded into the batch in "
        "another order than a mask, or a norm runs over the batch"
    )
    remedy = "check batch_first, and that masks are repeated as heads are folded: (batch · heads) with heads innermost"
    after = ("softmax", "head_merge")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare batches."""
        worst, tolerance, ways = 0.0, 0.0, ["alone", "another order"]
        for stream in subject.streams:
            tokens, together = bench.plain(stream)
            tolerance = max(tolerance, bench.floor(stream))
            error = _error(stream, tokens, together.tokens)
            if error > bench.floor(stream):
                return _failed(subject, bench, stream, error)
            if stream.padding and stream.sequential:
                masked = _with_masks(stream, tokens, *_masks(tokens))
                if masked > bench.floor(stream):
                    return _of_masks(subject, bench, stream, masked)
                ways.append("alone with its mask")
            worst = max(worst, error)
        return passed(
            "each sequence is the same alone, in a batch and in another order",
            measured=worst,
            tolerance=tolerance,
            ways=tuple(dict.fromkeys(ways)),
        )


def _error(stream: Stream, tokens: Tensor, together: Tensor) -> float:
    """Return how far the first sequence is from itself alone, and the batch from itself in reverse order."""
    turned = stream.run(tokens.flip(0)).tokens.flip(0)
    alone = stream.run(tokens[:1]).tokens
    return max(distance(turned, together), distance(alone, together[:1]))


def _masks(tokens: Tensor, step: int = 2) -> tuple[Tensor, int]:
    """Return masks of which each sequence ends earlier than the one before, and which sequence to look at."""
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    for row in range(1, len(tokens)):
        keep[row, -step * row :] = False
    return keep, 1


def _with_masks(stream: Stream, tokens: Tensor, keep: Tensor, row: int) -> float:
    """Return how far a padded sequence is from itself alone, with the same mask, when others are padded otherwise.

    A mask that is inverted or ignored is so in both, and no matter of the batch.
    """
    alone = stream.run(tokens[row : row + 1], keep[row : row + 1]).tokens[0, keep[row]]
    if not bool(alone.isfinite().all()):
        return 0.0
    return distance(alone, stream.run(tokens, keep).tokens[row, keep[row]])


def _failed(subject: Subject, bench: Bench, stream: Stream, error: float) -> Outcome:
    """Find the shortest sequences, two if they show it, and where it begins."""
    tolerance = bench.floor(stream)
    smaller = (one for one in _shorter(stream, bench) if _error(stream, one, stream.run(one).tokens) > tolerance)
    tokens = next(smaller, bench.plain(stream)[0])
    place = _where(subject, stream, tokens)
    begins = "" if place is None else f"; it begins in {place}"
    layer, head = (None, None) if place is None else (place.layer, place.head)
    return failed(
        f"a sequence changes by {error:.2g} with the others of its batch ({_counted(stream, tokens)} are enough)"
        f"{begins}",
        measured=error,
        tolerance=tolerance,
        case=Case(length=_length(stream, tokens), stream=stream.name, layer=layer, head=head),
        reproduction=_reproduction(subject, stream, tokens),
    )


def _of_masks(subject: Subject, bench: Bench, stream: Stream, error: float) -> Outcome:
    tolerance = bench.floor(stream)
    tokens, (keep, row) = next(
        (
            (one, masks)
            for one in _shorter(stream, bench)
            for masks in (_masks(one, 1), (_masks(one, 1)[0], 0))
            if _with_masks(stream, one, *masks) > tolerance
        ),
        (bench.plain(stream)[0], _masks(bench.plain(stream)[0])),
    )
    return failed(
        f"a sequence changes by {error:.2g} with the masks of the others of its batch ({_counted(stream, tokens)} are "
        "enough)",
        measured=error,
        tolerance=tolerance,
        case=Case(length=tokens.shape[1], stream=stream.name),
        ways=("alone with its mask",),
        reproduction=_reproduction(subject, stream, tokens, keep, row),
        meaning="a mask reaches another sequence: it is repeated over heads in another order than heads are folded",
        remedy="repeat masks with repeat_interleave(num_heads, dim=0), or give them as (batch, 1, q_len, kv_len)",
    )


def _shorter(stream: Stream, bench: Bench) -> Iterator[Tensor]:
    """Iterate over batches, two sequences and the shortest first."""
    for batch in range(2, bench.batch + 1):
        for length in bench.lengths() if stream.sequential else (bench.length,):
            yield bench.tokens(stream, batch, length)


def _length(stream: Stream, tokens: Tensor) -> int | None:
    return tokens.shape[1] if stream.sequential else None


def _counted(stream: Stream, tokens: Tensor) -> str:
    return f"{len(tokens)} of {tokens.shape[1]} tokens" if stream.sequential else f"{len(tokens)} of them"


def _where(subject: Subject, stream: Stream, tokens: Tensor) -> Place | None:
    """Return the first layer and heads that differ between the first sequence alone and in the batch."""
    if subject.copy is None:
        return None
    with traced(subject.copy) as one:
        stream.run(tokens[:1])
    with traced(subject.copy) as two:
        stream.run(tokens)
    return first_difference(one, two, lambda output: output, lambda output: output[:1])


def _reproduction(subject: Subject, stream: Stream, tokens: Tensor, keep: Tensor | None = None, row: int = 0) -> str:
    """Return how to see that a sequence gives something else alone, or the batch in reverse order."""
    rows = f"[{row}:{row + 1}]"
    masks = [] if keep is None else [f"keep = torch.tensor({keep.tolist()})"]
    alone = called(stream, f"tokens{rows}", None if keep is None else f"keep{rows}")
    together = called(stream, "tokens", None if keep is None else "keep")
    real = "" if keep is None else f"[:, keep[{row}]]"
    turned = [] if keep is not None else [_turned(stream)]
    return "\n".join(
        [
            subject.setup(),
            f"tokens = {written(tokens)}",
            *masks,
            f"print(({alone} - {together}{rows}){real}.abs().max())  # must be 0",
            *turned,
        ]
    )


def _turned(stream: Stream) -> str:
    turned, together = called(stream, "tokens.flip(0)"), called(stream, "tokens")
    return f"print(({turned}.flip(0) - {together}).abs().max())  # must be 0"
