"""Cached = uncached: generating step by step gives what one pass over the whole sequence gives."""

from functools import partial

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, Outcome, failed, passed
from regard.conformance.rollout import rolled
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject

__all__ = ["Cache", "largest_by_token"]


class Cache(Rule):
    """Feeds a sequence token by token, after a prompt, and behind left padding."""

    id = "cache"
    title = "With a cache as without"
    law = "every step with cached keys and values gives what one pass over the whole sequence gives"
    why = (
        "A cache that is off by one token still generates fluent text, of another model than the one that was "
        "evaluated."
    )
    method = "Token by token, a prompt and then token by token, and both behind left padding, against one pass."
    tolerance = "twice the error of a float32 run against the float64 one"
    meaning = (
        "positions of a step do not continue after the cached ones, or the cache drops, repeats or overwrites a token"
    )
    remedy = (
        "start positions at the cache's length, append keys after rotation at that place, and give the mask the "
        "length of cache plus chunk"
    )
    kinds = ("model",)
    after = ("causality", "causal_corner", "padding", "window", "batch", "cross_lengths")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare steps with one pass."""
        streams = [stream for stream in subject.sequences if stream.step is not None]
        if not streams:
            raise NotApplicableError(
                "it has no cache" if subject.traits.causal else "it is bidirectional, and a cache is for causal models"
            )
        worst, tolerance, ways = 0.0, 0.0, []
        for stream in streams:
            tolerance = bench.floor(stream)
            for name, sizes, keep in _plans(stream, bench):
                tokens = bench.tokens(stream, 2)
                kept: list[Tensor] = []
                error, tolerance = bench.settled(stream, partial(_error, stream, tokens, sizes, keep, kept))
                ways.append(name)
                worst = max(worst, error)
                if error > tolerance:
                    return _failed(subject, bench, stream, name, sizes, keep, kept[-1], tolerance)
        return passed(
            "every step equals one pass over the whole sequence", measured=worst, tolerance=tolerance, ways=tuple(ways)
        )


_BEHIND_PADDING = (
    "without padding the cache is right, behind left padding it is not: positions or the mask of a step do not count "
    "the padding as the first pass did"
)


def _plans(stream: Stream, bench: Bench) -> list[tuple[str, list[int], Tensor | None]]:
    length = bench.length
    plans: list[tuple[str, list[int], Tensor | None]] = [("a prompt, then token by token", [length - 3, 1, 1, 1], None)]
    if not bench.fast:
        plans.append(("token by token", [1] * length, None))
    if stream.padding and stream.left_padding:
        keep = torch.ones(2, length, dtype=torch.bool)
        keep[1, : min(3, length - 4)] = False
        plans.append(("behind left padding", [length - 3, 1, 1, 1], keep))
    return plans


def _error(stream: Stream, tokens: Tensor, sizes: list[int], keep: Tensor | None, kept: list[Tensor]) -> float:
    """Return the largest difference, and keep that of each token."""
    kept.append(_differences(stream, tokens, sizes, keep))
    return float(kept[-1].max())


def _differences(stream: Stream, tokens: Tensor, sizes: list[int], keep: Tensor | None) -> Tensor:
    """Return the largest difference of each real token, (batch, len); 0 for padding."""
    steps = rolled(stream, tokens, sizes, keep)
    if keep is None:
        return largest_by_token(steps, stream.run(tokens).tokens)
    alone = torch.zeros_like(steps)
    for row, real in enumerate(keep):
        alone[row, real] = stream.run(tokens[row : row + 1, real]).tokens[0]
    return largest_by_token(steps, alone).masked_fill(~keep, 0.0)


def largest_by_token(one: Tensor, other: Tensor) -> Tensor:
    """Return the largest difference at each token, (batch, len); infinite where a number is not finite."""
    return (one - other).abs().amax(-1).nan_to_num(nan=torch.inf).double()


def _failed(
    subject: Subject,
    bench: Bench,
    stream: Stream,
    name: str,
    sizes: list[int],
    keep: Tensor | None,
    differences: Tensor,
    tolerance: float,
) -> Outcome:
    token = int((differences.amax(0) > tolerance).nonzero()[0])
    error, length = float(differences.max()), bench.length
    if keep is None:
        for shorter in bench.lengths():
            found = _differences(stream, bench.tokens(stream, 2, shorter), [shorter - 1, 1], None)
            if float(found.max()) > tolerance:
                length, sizes = shorter, [shorter - 1, 1]
                token = int((found.amax(0) > tolerance).nonzero()[0])
                break
    return failed(
        f"{name}, the output at token {token} differs by {error:.2g} from one pass (chunks {sizes})",
        measured=error,
        tolerance=tolerance,
        case=Case(length=length, stream=stream.name, query=token),
        ways=(name,),
        reproduction=_reproduction(subject, stream, bench.tokens(stream, 1, length), sizes) if keep is None else None,
        meaning=None if keep is None else _BEHIND_PADDING,
    )


def _reproduction(subject: Subject, stream: Stream, tokens: Tensor, sizes: list[int]) -> str:
    first = tokens.shape[1] - sizes[-1]
    lines = [subject.setup(), f"ids = torch.tensor({tokens.tolist()})"]
    if stream.name == "tokens" and stream.cache_name:
        lines += [
            f"first = model(input_ids=ids[:, :{first}], use_cache=True)",
            f"step = model(input_ids=ids[:, {first}:], {stream.cache_name}=first.{stream.cache_name})",
            f"print((step[0] - model(input_ids=ids)[0][:, {first}:]).abs().max())  # must be 0",
        ]
    else:
        lines.append(
            f"# {stream.name}: feed ids[:, :{first}], then ids[:, {first}:] with the cache, and compare with one pass"
        )
    return "\n".join(lines)
