"""Grouped heads: consecutive query heads share a key head."""

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.projections import matching_heads, origins
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, Trace

__all__ = ["GroupedHeads"]

_EXACT = 1e-9


class GroupedHeads(Rule):
    """Gives each key head values of its own and looks which query heads they reach."""

    id = "grouped_heads"
    title = "Consecutive query heads share a key head"
    law = "query head i uses key and value head i // (num_heads / num_kv_heads)"
    why = (
        "Ainslie et al., arXiv:2305.13245; torch: scaled_dot_product_attention(enable_gqa=True) repeats by "
        "repeat_interleave. Any other order runs and loads weights, and is wrong."
    )
    method = (
        "Functions: values that name their head, and keys changed one head at a time. Modules: which projected head"
        " each kernel head got, for values and for the norms of keys."
    )
    tolerance = "1e-9 in float64: a head is another head or it is not"
    meaning = (
        "key heads were repeated with repeat or tile (0 1 0 1) instead of repeat_interleave (0 0 1 1), or heads "
        "were split in another order"
    )
    remedy = "use repeat_interleave(num_heads // num_kv_heads, dim=1) or enable_gqa=True"
    after = ("softmax", "head_merge")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Look which key head each query head uses."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    query, key, _ = subject.draw(bench.generator(), 5, heads=4, kv_heads=2)
    named = torch.arange(2, dtype=torch.float64)[None, :, None, None].expand_as(key).contiguous()
    try:
        output = subject.attend(query, key, named)
    except NotTestedError as refused:
        raise NotApplicableError("it takes no fewer key heads than query heads") from refused
    by_value = output[0, :, 0, 0].round().long().tolist()
    error = float((output - torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)[None, :, None, None]).abs().max())
    value = torch.randn(key.shape, generator=bench.generator(1), dtype=torch.float64)
    value[:, 1] = value[:, 0]  # only the keys tell the heads apart
    before = subject.attend(query, key, value)
    key = key.clone()
    key[:, 1] *= -1
    moved = (subject.attend(query, key, value) - before).abs().amax((0, 2, 3)) > _EXACT
    if error <= _EXACT and moved.tolist() == [False, False, True, True]:
        ways = ("values that name their head", "keys of one head changed")
        return passed("query heads 0 1 2 3 use key heads 0 0 1 1", measured=error, tolerance=_EXACT, ways=ways)
    by_key = [int(one) for one in moved]
    return failed(
        f"of 4 query heads and 2 key heads, the values reach query heads as {by_value} and the keys as "
        f"{by_key}, not as [0, 0, 1, 1]",
        measured=error,
        tolerance=_EXACT,
        reproduction=_reproduction(subject),
    )


def _reproduction(subject: FunctionSubject) -> str:
    grouped = f", {subject.options['grouped']}=True" if "grouped" in subject.options else ""
    return (
        f"{subject.setup()}\nquery, key = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 5, 16)\n"
        "value = torch.arange(2.0)[None, :, None, None].expand_as(key).contiguous()\n"
        f"print({subject.name}(query, key, value{grouped})[0, :, 0, 0])  # must be 0 0 1 1"
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    calls, grouped, why_not = 0, 0, "no attention call could be heard with its values"
    for stream in subject.streams:
        trace = bench.trace(stream)
        for heard in trace.calls:
            if heard.call.value is None:
                continue
            found = _used(trace, heard, heard.call.value)
            if found is None:
                why_not = f"{heard.layer}: its values are not what a projection made"
                continue
            calls += 1
            used, number = found
            group = heard.call.num_heads // number
            grouped += group > 1
            wanted = [head // group for head in range(heard.call.num_heads)]
            if used != wanted:
                head = next(head for head, (one, other) in enumerate(zip(used, wanted, strict=True)) if one != other)
                return failed(
                    f"{heard.layer}, head {head} uses value head {used[head]} of {number}, not {wanted[head]}: "
                    f"all heads use {used}",
                    case=Case(stream=stream.name, layer=heard.layer, head=head),
                    ways=("which projected value head each kernel head got",),
                )
    if not calls:
        raise NotTestedError(why_not)
    shared = f", {grouped} of them with shared key heads" if grouped else "; none shares key heads"
    return passed(
        f"each head of {counted(calls, 'attention call')} uses its own value head{shared}",
        ways=("which projected value head each kernel head got",),
    )


def _used(trace: Trace, heard: Heard, value: Tensor) -> tuple[list[int], int] | None:
    """Return which projected value head each query head uses and how many there are, or None if that cannot be seen."""
    for origin in origins(trace, heard, value, heard.call.num_heads):
        used = matching_heads(value, origin)
        if used is not None:
            repeated = heard.call.num_heads // value.shape[1]
            return used.repeat_interleave(repeated).tolist(), origin.heads.shape[2]
    return None
