"""Headroom: the largest score fits the type that it is computed in."""

import torch

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject

__all__ = ["DtypeHeadroom"]

_STD, _WIDTH = 64.0, 128  # scaled scores stay below 6,000; products do not fit float16


class DtypeHeadroom(Rule):
    """Looks at the largest product of a query and a key beside the largest number of the type."""

    id = "dtype_headroom"
    title = "Scores fit their type"
    law = (
        "products of queries and keys, before and after the scale, are below the largest number of the type that "
        "they are held in"
    )
    why = (
        "float16 ends at 65,504. A product that is scaled after it overflowed is inf, and inf - inf in the softmax "
        "is NaN."
    )
    method = (
        "The largest product and score of each call that holds its scores, and a run in the subject's own type that"
        " must stay finite."
    )
    tolerance = "the largest number of the type"
    meaning = "in half precision the scale is applied after the product, or norms of queries and keys have grown"
    remedy = "scale the query before the product, compute scores in float32 or bfloat16, or bound them with QK-norm"
    after = ("scale",)

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare the largest numbers with the type."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    dtype = subject.traits.dtype or torch.float32
    query, key, value = subject.draw(bench.generator(), 12, head_dim=_WIDTH)
    half = [(_STD * query).to(dtype), (_STD * key).to(dtype), value.to(dtype)]
    output = subject.attend(*half)
    largest = float((half[0].double() @ half[1].double().mT).abs().max())
    if not bool(output.isfinite().all()):
        return failed(
            f"in {dtype} queries and keys of size {_STD:g} give numbers that are not finite: "
            f"their products reach {largest:.3g}, their scaled scores {largest / _WIDTH**0.5:.3g}",
            measured=largest,
            tolerance=torch.finfo(dtype).max,
            case=Case(length=12),
        )
    return passed(
        f"in {dtype} products up to {largest:.3g} give finite outputs",
        measured=largest / _WIDTH**0.5,
        tolerance=torch.finfo(dtype).max,
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    limit, worst = torch.finfo(subject.dtype).max, 0.0
    for stream in subject.streams:
        exact = bench.plain(stream)[1]
        for heard in bench.trace(stream).calls:
            if heard.query is None or heard.key is None:
                continue
            group = heard.query.shape[1] // heard.key.shape[1]
            products = (heard.query.double() @ heard.key.double().repeat_interleave(group, 1).mT).abs()
            fused = heard.call.scores is None  # kernels hold their products in float32 at least
            scores = heard.scores
            held = float(scores[scores.isfinite()].abs().max()) if fused else float(products.max())
            worst = max(worst, held)
            if held > limit:
                head = int(products.amax((0, 2, 3)).argmax())
                return failed(
                    f"{heard.layer}, head {head}: products of queries and keys reach {held:.3g}, "
                    f"and {subject.dtype} ends at {limit:.3g}",
                    measured=held,
                    tolerance=limit,
                    case=Case(length=bench.length, stream=stream.name, layer=heard.layer, head=head),
                    ways=("largest product of each call",),
                )
        if bool(exact.tokens.isfinite().all()) and not _finite_in_own_type(subject, stream, bench):
            return failed(
                f"in {subject.dtype} its outputs are not finite, in float64 they are",
                measured=worst,
                tolerance=limit,
                case=Case(length=bench.length, stream=stream.name),
                ways=("a run in its own type",),
            )
    if not worst:
        raise NotTestedError("no products of queries and keys could be heard")
    return passed(
        f"the largest score is {worst:.3g}, and {subject.dtype} ends at {limit:.3g}",
        measured=worst,
        tolerance=limit,
        ways=("largest product of each call", "a run in its own type"),
    )


def _finite_in_own_type(subject: Subject, stream: Stream, bench: Bench) -> bool:
    if subject.dtype == torch.float64:
        return True
    if subject.dtype == torch.float32:
        return bool(bench.rough(stream).tokens.isfinite().all())
    with subject.precision(subject.dtype):
        return bool(stream.run(bench.tokens(stream)).tokens.isfinite().all())
