"""Roles: what is called query asks, what is called key is compared with, what is called value is mixed."""

import re
from collections.abc import Iterator

from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.projections import matching_heads, origins, origins_by_norm
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, Trace

__all__ = ["Roles"]

_EXACT, _SMALL = 1e-9, 0.1
_WORDS = {
    "query": ("q", "query", "queries", "wq"),
    "key": ("k", "key", "keys", "wk"),
    "value": ("v", "value", "values", "wv"),
}


class Roles(Rule):
    """Follows what the projections made into the kernel; changes one query of a function."""

    id = "roles"
    title = "Queries ask, keys are compared with, values are mixed"
    law = (
        "query, key and value of the attention are what the projections of these names made; the query of a position "
        "changes the output of that position alone"
    )
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.2: softmax(Q Kᵀ) V. Exchanged names train as well as right ones, "
        "and fail with the first weights that come from elsewhere, with a mask, or with another sequence."
    )
    method = (
        "Modules: the names of the projections that each kernel's query, key and value came from. Functions: one query "
        "is changed, and all outputs looked at; then one key."
    )
    tolerance = "none for names; 1e-9 in float64 for functions"
    meaning = "two projections are exchanged in the code, or scores are K Qᵀ instead of Q Kᵀ"
    remedy = (
        "hand each kernel what its projection made, in the order query, key, value, and compute query @ key.mT; "
        "weights that were trained with exchanged names need them exchanged back"
    )
    after = ("softmax", "grouped_heads", "head_merge")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Follow or change."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    query, key, value = subject.draw(bench.generator(), 6)
    query, key = query * _SMALL, key * _SMALL  # so that a factor on purpose leaves no weight at 0
    before = subject.attend(query, key, value)
    by_query, by_key = (_changed_rows(subject, before, [query, key, value], which) for which in (0, 1))
    others = [row for row in by_query if row != 2]
    if others or 2 not in by_query or by_key == [2]:
        return failed(
            f"another query 2 changes the outputs at {by_query or 'no position'}, not at 2 alone, and another key 2 "
            f"those at {by_key or 'no position'}",
            case=Case(length=6, query=others[0] if others else 2, key=2),
            ways=("one query changed",),
            reproduction=(
                f"{subject.setup()}\nquery, key, value = torch.randn(3, 1, 1, 2, 16, dtype=torch.float64)\n"
                "other = query.clone()\nother[..., 1, :] *= -1\n"
                f"before, after = {subject.name}(query, key, value), {subject.name}(other, key, value)\n"
                "print((before - after)[0, 0, 0].abs().max())  # must be 0"
            ),
        )
    return passed(
        "a query changes the output of its own position alone, a key those of others",
        ways=("one query changed", "one key changed"),
    )


def _changed_rows(subject: FunctionSubject, before: Tensor, inputs: list[Tensor], which: int) -> list[int]:
    """Return the rows that change with position 2 of one of the inputs."""
    changed = [one.clone() for one in inputs]
    changed[which][:, :, 2] *= -1
    moved = (subject.attend(*changed) - before).abs().amax((0, 1, 3))
    return [int(row) for row in (moved > _EXACT).nonzero()[:, 0]]


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    told, seen, untold = 0, 0, ""
    for stream in subject.streams:
        trace = bench.trace(stream)
        for heard in trace.calls:
            for role, arrived in _arrived(heard):
                if any(_made_by(trace, heard, role, arrived, own=True)):
                    told, seen = told + 1, seen + 1
                    continue
                names = list(_made_by(trace, heard, role, arrived, own=False))
                seen += bool(names)
                wrong = next((name for name in names if _role(name)), None)
                if wrong is not None and _is_there(subject, heard.layer, role):
                    return failed(
                        f"{heard.layer}: its {role} is what {wrong} made",
                        case=Case(stream=stream.name, layer=heard.layer),
                        ways=("names of the projections",),
                    )
                untold = names[0].rpartition(".")[2] if names else untold
    if not seen:
        raise NotTestedError("no attention call could be heard with what its queries, keys and values were made by")
    if not told:
        what = f"are made by {untold} together" if untold else "come from projections without names"
        raise NotApplicableError(f"query, key and value {what}, so that no name tells them apart")
    return passed(
        f"{counted(told, 'query, key or value', 'queries, keys and values')} came from the projections of their names",
        ways=("names of the projections",),
    )


def _arrived(heard: Heard) -> Iterator[tuple[str, Tensor]]:
    """Iterate over role and tensor of what a kernel got; zeros, as of pruned heads, come from anywhere."""
    for role, arrived in (("query", heard.query), ("key", heard.key), ("value", heard.call.value)):
        if arrived is not None and bool(arrived.any()):
            yield role, arrived


def _made_by(trace: Trace, heard: Heard, role: str, arrived: Tensor, *, own: bool) -> Iterator[str]:
    """Iterate over the layers that may have made it: those whose name says this role, or the others."""

    def wanted(name: str) -> bool:
        return (_role(name) == role) is own

    if role == "value":
        for one in origins(trace, heard, arrived, heard.call.num_heads, wanted):
            if matching_heads(arrived, one) is not None:
                yield one.name
    else:
        yield from (origin.name for origin, _ in origins_by_norm(trace, heard, arrived, wanted))


def _is_there(subject: Subject, layer: str, role: str) -> bool:
    """Return whether a layer has a projection of that name: some share one for key and value."""
    assert subject.copy is not None
    modules = dict(subject.copy.named_modules())
    return any(_role(name) == role for name, _ in modules.get(layer, subject.copy).named_modules())


def _role(name: str) -> str | None:
    """Return the role that the last part of a layer's name says, or None if it says none or several."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name.rpartition(".")[2])
    roles = [role for role, known in _WORDS.items() if any(word.lower() in known for word in words)]
    return roles[0] if len(roles) == 1 else None
