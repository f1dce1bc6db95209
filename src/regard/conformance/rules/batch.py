"""Batch invariance: a sequence does not notice which others are computed with it."""

import torch
from torch import Tensor

from regard.conformance.bench import Bench, distance
from regard.conformance.locate import Place, first_difference
from regard.conformance.outcome import Case, Outcome, failed, passed
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
            turned = stream.run(tokens.flip(0)).tokens.flip(0)
            alone = stream.run(tokens[:1]).tokens
            error = max(distance(turned, together.tokens), distance(alone, together.tokens[:1]))
            if error <= bench.floor(stream) and stream.padding and stream.sequential:
                masked = _with_masks(stream, tokens)
                if masked > bench.floor(stream):
                    return _of_masks(stream, bench, masked)
                ways.append("alone with its mask")
            worst = max(worst, error)
            if error > bench.floor(stream):
                place = _where(subject, stream, tokens)
                begins = "" if place is None else f"; it begins in {place}"
                layer, head = (None, None) if place is None else (place.layer, place.head)
                return failed(
                    f"a sequence changes by {error:.2g} with the others of its batch{begins}",
                    measured=error,
                    tolerance=bench.floor(stream),
                    case=Case(length=bench.length, stream=stream.name, layer=layer, head=head),
                    reproduction=_reproduction(subject, stream.text.replace("{keep}", "")),
                )
        return passed(
            "each sequence is the same alone, in a batch and in another order",
            measured=worst,
            tolerance=tolerance,
            ways=tuple(dict.fromkeys(ways)),
        )


def _with_masks(stream: Stream, tokens: Tensor) -> float:
    """Return how far a padded sequence is from itself alone, with the same mask, when others are padded otherwise.

    A mask that is inverted or ignored is so in both, and no matter of the batch.
    """
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    for row in range(1, len(tokens)):
        keep[row, -2 * row :] = False
    alone = stream.run(tokens[1:2], keep[1:2]).tokens[0, keep[1]]
    if not bool(alone.isfinite().all()):
        return 0.0
    return distance(alone, stream.run(tokens, keep).tokens[1, keep[1]])


def _of_masks(stream: Stream, bench: Bench, error: float) -> Outcome:
    return failed(
        f"a sequence changes by {error:.2g} with the masks of the others of its batch",
        measured=error,
        tolerance=bench.floor(stream),
        case=Case(length=bench.length, stream=stream.name),
        ways=("alone with its mask",),
        meaning="a mask reaches another sequence: it is repeated over heads in another order than heads are folded",
        remedy="repeat masks with repeat_interleave(num_heads, dim=0), or give them as (batch, 1, q_len, kv_len)",
    )


def _where(subject: Subject, stream: Stream, tokens: Tensor) -> Place | None:
    """Return the first layer and heads that differ between the first sequence alone and in the batch."""
    if subject.copy is None:
        return None
    with traced(subject.copy) as one:
        stream.run(tokens[:1])
    with traced(subject.copy) as two:
        stream.run(tokens)
    return first_difference(one, two, lambda output: output, lambda output: output[:1])


def _reproduction(subject: Subject, text: str) -> str:
    alone, together = text.replace("{tokens}", "tokens[:1]"), text.replace("{tokens}", "tokens")
    compared = f"print(({alone} - {together}[:1]).abs().max())  # must be 0"
    return f"{subject.setup()}\n# tokens: a batch of at least two\n{compared}"
