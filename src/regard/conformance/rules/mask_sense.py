"""Mask sense: what a mask allows is seen, what it forbids is not, and not the other way round."""

import torch
from torch import Tensor, nn

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.reproduction import masked
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Trace, traced

__all__ = ["MaskSense", "padded_on_the_right"]

_EXACT = 1e-9


class MaskSense(Rule):
    """Masks some keys and looks which keys still have weight."""

    id = "mask_sense"
    title = "A mask hides what it should, not the rest"
    law = "functions: True means may attend, and a float mask is added to the scores; models: 1 means a real token"
    why = (
        "torch.nn.functional.scaled_dot_product_attention takes True for may attend, nn.MultiheadAttention takes "
        "True for may not; nothing raises when they are confused."
    )
    method = (
        "The weights of masked and of visible keys, read off unit values (functions) or heard inside (modules); and"
        " the scores with and without the mask."
    )
    tolerance = "a hidden key has the weight 0 exactly, a visible one does not"
    meaning = "the mask is inverted, or a mask of 0 and 1 is added to the scores as a number instead of hiding anything"
    remedy = (
        "invert the mask where conventions meet (~mask), and turn 0/1 into a boolean before it reaches a kernel: "
        "mask.bool()"
    )
    after = ("batch",)

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Look at what is hidden."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if "mask" not in subject.options:
        raise NotApplicableError("it takes no mask")
    query, key, keep = _masked(subject, bench, 6)
    seen = subject.weights(query, key, mask=keep) > 0
    wanted = keep.expand_as(seen)
    if bool((seen == wanted).all()):
        return _floats(subject, query, key, keep)
    free = subject.weights(query, key)
    return failed(
        _seen_instead(seen, wanted, subject.weights(query, key, mask=keep), free),
        case=_smallest(subject, bench),
        ways=("weights read off unit values",),
        reproduction=(
            f"{subject.setup()}\nquery = key = value = torch.randn(1, 1, 2, 16)\n"
            "keep = torch.tensor([[True, False], [True, True]])  # query 0 sees key 0 alone\n"
            f"print({subject.name}(query, key, value, {subject.options['mask']}=keep)[0, 0, 0] - value[0, 0, 0])"
            "  # must be 0"
        ),
    )


def _masked(subject: FunctionSubject, bench: Bench, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and a mask that hides some key and leaves each query its own."""
    query, key, _ = subject.draw(bench.generator(), length, batch=2)
    keep = torch.rand(2, 1, length, length, generator=bench.generator(1)) < 0.6
    keep |= torch.eye(length, dtype=torch.bool)
    keep[..., 0, 1] = False
    return query, key, keep.tril() if subject.traits.causal else keep


def _smallest(subject: FunctionSubject, bench: Bench) -> Case:
    """Return the fewest tokens at which a wrong key has weight, and the first query and key."""
    for length in range(2, 7):
        query, key, keep = _masked(subject, bench, length)
        wrong = (subject.weights(query, key, mask=keep) > 0) != keep
        if bool(wrong.any()):
            _, head, at, seen = wrong.nonzero()[0].tolist()
            return Case(length=length, head=head, query=at, key=seen)
    return Case(length=6)


def _seen_instead(seen: Tensor, wanted: Tensor, weights: Tensor, free: Tensor) -> str:
    """Return what the mask does instead of hiding."""
    if bool((seen == ~wanted).all() | (seen & wanted).logical_not().all()):
        return "the mask is inverted: keys with True have no weight, keys with False have it all"
    if float((weights - free).abs().max()) <= _EXACT:
        return "the mask has no effect"
    raised = (weights / free).log()
    step = (raised * wanted).sum(-1) / wanted.sum(-1) - (raised * ~wanted).sum(-1) / (~wanted).sum(-1).clamp_min(1)
    if float((step[(~wanted).any(-1)] - 1).abs().max()) < 1e-6:
        return "the mask is added to the scores as 0 and 1 and hides nothing"
    hidden, missed = int((seen & ~wanted).sum()), int((~seen & wanted).sum())
    return f"{hidden} hidden keys have weight and {missed} visible ones have none, of {seen.numel()}"


def _floats(subject: FunctionSubject, query: Tensor, key: Tensor, keep: Tensor) -> Outcome:
    """Test the float mask as well, where it is taken."""
    ways = ["boolean mask"]
    bias = torch.randn(keep.shape, generator=torch.Generator().manual_seed(1), dtype=query.dtype)
    bias = bias.masked_fill(~keep, -torch.inf)
    try:
        weights = subject.weights(query, key, mask=bias)
    except NotTestedError:
        return passed("True means may attend; it takes no float mask", ways=tuple(ways))
    ways.append("float mask")
    free = subject.weights(query, key)
    expected = (free.clamp_min(1e-300).log() + bias).softmax(-1)
    error = float((weights - expected).abs().max())
    if not error <= _EXACT:
        return failed(
            f"a float mask is not added to the scores: weights are off by {error:.2g}",
            measured=error,
            tolerance=_EXACT,
            ways=("float mask",),
        )
    return passed(
        "True means may attend, and a float mask is added to the scores",
        measured=error,
        tolerance=_EXACT,
        ways=tuple(ways),
    )


def padded_on_the_right(
    stream: Stream, bench: Bench, length: int | None = None, padding: int = 3
) -> tuple[Tensor, Tensor]:
    """Return tokens and their mask; the second of two sequences ends ``padding`` tokens early."""
    tokens = bench.tokens(stream, 2, length)
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    keep[1, -padding:] = False
    return tokens, keep


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    assert subject.copy is not None
    streams = [stream for stream in subject.sequences if stream.padding]
    if not streams:
        raise NotApplicableError("it takes no mask of real tokens")
    heard = 0
    for stream in streams:
        tokens, keep = padded_on_the_right(stream, bench)
        found, number = _looked_at(subject.copy, stream, tokens, keep)
        heard += number
        if found is not None:
            return _failed(subject, subject.copy, bench, stream, found)
    if not heard:
        raise NotTestedError("no attention call over its tokens could be heard")
    return passed(
        f"in {counted(heard, 'attention call')} real tokens are seen, and no mask is inverted or added as a number",
        ways=("weights of hidden and visible keys in each call", "scores with and without the mask"),
    )


def _looked_at(module: nn.Module, stream: Stream, tokens: Tensor, keep: Tensor) -> tuple[tuple[str, str] | None, int]:
    """Return what ``_wrong`` finds in a run without and in one with the mask."""
    with traced(module) as free:
        stream.run(tokens)
    with traced(module) as hiding:
        stream.run(tokens, keep)
    return _wrong(free, hiding, keep)


def _failed(subject: Subject, module: nn.Module, bench: Bench, stream: Stream, found: tuple[str, str]) -> Outcome:
    """Find the shortest sequence, with one token of padding."""
    tokens, keep = padded_on_the_right(stream, bench)
    for length in bench.lengths():
        shorter = padded_on_the_right(stream, bench, length, 1)
        if _looked_at(module, stream, *shorter)[0] == found:
            tokens, keep = shorter
            break
    layer, seen = found
    return failed(
        f"{layer}: {seen}",
        case=Case(length=tokens.shape[1], stream=stream.name, layer=layer),
        ways=("weights of hidden and visible keys in each call",),
        reproduction=masked(subject, stream, tokens[1:], keep[1:]),
    )


def _wrong(free: Trace, masked: Trace, keep: Tensor) -> tuple[tuple[str, str] | None, int]:
    """Return the first layer that takes the mask the wrong way and how, and how many calls were looked at."""
    length, number = keep.shape[1], 0
    for plain, call in zip(free.calls, masked.calls, strict=False):
        if call.call.kv_len != length or call.call.batch != len(keep):
            continue
        number += 1
        weights, before = (one.weights[1].double() for one in (call, plain))
        real, hidden = keep[1], ~keep[1]
        rows = real if call.call.q_len == length else slice(None)
        on_real, on_hidden = weights[:, rows][..., real], weights[:, rows][..., hidden]
        visible = before[:, rows][..., real] > 0
        if bool(visible.any()) and not bool((on_real > 0).any()):
            return (call.layer, "the mask is inverted: real tokens have no weight"), number
        if bool((on_hidden > 0).any()) and _added(plain.scores[1][:, rows], call.scores[1][:, rows], keep[1]):
            return (call.layer, "the mask is added to the scores as 0 and 1 and hides nothing"), number
    return None, number


def _added(before: Tensor, after: Tensor, keep: Tensor) -> bool:
    """Return whether the mask changed scores by 0 and 1."""
    seen = before.isfinite() & after.isfinite()
    raised = torch.where(seen, after - before, keep.to(after.dtype))
    return float((raised - keep.to(after.dtype)).abs().max()) < 1e-3 and bool(seen.any())
