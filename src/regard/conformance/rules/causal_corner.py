"""Causal corner: with more keys than queries the last query belongs to the last key."""

import torch
from torch.nn import functional as F

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, deviates, failed, passed
from regard.conformance.rollout import rolled
from regard.conformance.rule import Rule
from regard.conformance.rules.cache import largest_by_token
from regard.conformance.stream import Stream
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, traced
from regard.functional import causal_mask

__all__ = ["CausalCorner"]

_QUERIES, _KEYS = 3, 7


class CausalCorner(Rule):
    """Attends from the last tokens to all of them."""

    id = "causal_corner"
    title = "The last query belongs to the last key"
    law = "with q_len < kv_len, query i sees the keys j <= i + kv_len - q_len, as the continuation of a cached sequence"
    why = (
        "torch.nn.functional.scaled_dot_product_attention(is_causal=True) aligns at the top left; with a cache each"
        " step then sees the oldest keys alone. FlashAttention 2.1 changed its corner for this reason."
    )
    method = (
        "Functions: weights read off unit values. Models: a chunk of several tokens after a cached part, its "
        "weights in each layer and its outputs against one pass."
    )
    tolerance = "weights 0 or not; outputs twice the error of a float32 run against the float64 one"
    meaning = "a causal flag or a square triangle is used although keys were cached: its corner is at the top left"
    remedy = "build the mask with torch.ones(q_len, kv_len).tril(kv_len - q_len), and leave is_causal=False then"
    kinds = ("function", "model")
    after = ("causality", "mask_sense")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Look at the corner."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        streams = [stream for stream in subject.sequences if stream.step is not None]
        if not streams:
            raise NotApplicableError("it has no cache, so queries and keys are equally many")
        return _of_model(subject, streams[0], bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if not (subject.traits.causal or "causal" in subject.options):
        raise NotApplicableError("it has no causal mask of its own")
    query, key, _ = subject.draw(bench.generator(), _QUERIES, _KEYS)
    options = {} if subject.traits.causal else {"causal": True}
    try:
        seen = subject.weights(query, key, **options) > 0
    except NotTestedError as error:
        raise NotApplicableError("it refuses a causal call with fewer queries than keys") from error
    if bool((seen == causal_mask(_QUERIES, _KEYS)).all()):
        return passed(
            f"with {_QUERIES} queries and {_KEYS} keys the last query sees all", ways=("weights read off unit values",)
        )
    top_left = torch.ones(_QUERIES, _KEYS, dtype=torch.bool).tril()
    where = (
        "its corner is at the top left: the first query sees the first key alone"
        if bool((seen == top_left).all())
        else f"query 0 sees {int(seen[0, 0, 0].sum())} of {_KEYS} keys"
    )
    if subject.function is F.scaled_dot_product_attention:
        return deviates(
            f"is_causal=True with {_QUERIES} queries and {_KEYS} keys: {where}, as PyTorch documents",
            remedy="with a cache pass a mask, torch.nn.attention.bias.causal_lower_right(q_len, kv_len)",
        )
    return failed(
        f"with {_QUERIES} queries and {_KEYS} keys {where}",
        case=Case(length=_KEYS, query=0, key=int(seen[0, 0, 0].sum())),
        ways=("weights read off unit values",),
        reproduction=(
            f"{subject.setup()}\nquery, key = torch.randn(1, 1, {_QUERIES}, 16), torch.randn(1, 1, {_KEYS}, 16)\n"
            f"value = torch.eye({_KEYS}, 16)[None, None]\n"
            f"print({subject.name}(query, key, value{_causal(subject)})[0, 0, :, :{_KEYS}] > 0)\n"
            "# the last row must be True"
        ),
    )


def _causal(subject: FunctionSubject) -> str:
    return f", {subject.options['causal']}=True" if "causal" in subject.options else ""


def _of_model(subject: Subject, stream: Stream, bench: Bench) -> Outcome:
    assert subject.copy is not None
    length = bench.length
    tokens, sizes, floor = bench.tokens(stream, 2), [length - 4, 4], bench.floor(stream)
    with traced(subject.copy) as trace:
        steps = rolled(stream, tokens, sizes)
    looked = 0
    for heard in trace.calls:
        if heard.call.q_len == sizes[1] and heard.call.kv_len == length:
            looked += 1
            wrong = _wrong(heard, sizes[1], length)
            if wrong is not None:
                head, query, seen = wrong
                return failed(
                    f"{heard.layer}, head {head}: of a chunk of {sizes[1]} tokens after {sizes[0]} cached ones, {seen}",
                    case=Case(length=length, stream=stream.name, layer=heard.layer, head=head, query=sizes[0] + query),
                    ways=("weights of the chunk in each layer",),
                )
    differences = largest_by_token(steps, stream.run(tokens).tokens)
    error = float(differences.max())
    if error > floor:
        single = largest_by_token(rolled(stream, tokens, [1] * length), stream.run(tokens).tokens)
        if float(single.max()) > floor:
            raise NotTestedError("single cached steps already differ from one pass; see cache")
        return failed(
            f"a chunk of {sizes[1]} tokens after {sizes[0]} cached ones differs by {error:.2g} from one pass, "
            "though single steps do not",
            measured=error,
            tolerance=floor,
            case=Case(length=length, stream=stream.name, query=int(differences.amax(0).argmax())),
        )
    ways = ("outputs against one pass", *(("weights of the chunk in each layer",) if looked else ()))
    return passed(
        f"a chunk of {sizes[1]} tokens after {sizes[0]} cached ones equals one pass",
        measured=error,
        tolerance=floor,
        ways=ways,
    )


def _wrong(heard: Heard, q_len: int, kv_len: int) -> tuple[int, int, str] | None:
    """Return (head, query, what it sees) of the first head whose corner is elsewhere, or None."""
    seen = ~heard.hidden.all(0)
    wanted = causal_mask(q_len, kv_len)
    later = seen & ~wanted
    if bool(later.any()):
        head, query, key = later.nonzero()[0].tolist()
        return head, query, f"token {kv_len - q_len + query} sees the later token {key}"
    itself = seen[:, torch.arange(q_len), torch.arange(q_len) + kv_len - q_len]
    if bool(itself.all()):
        return None
    head, query = (~itself).nonzero()[0].tolist()
    return (
        head,
        query,
        f"token {kv_len - q_len + query} sees only keys {seen[head, query].nonzero()[:, 0].tolist()} and not itself",
    )
