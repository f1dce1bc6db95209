"""The table of mutants and rules: which rules caught each mutant, and which one was named first."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from regard.conformance.check import check
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.rules import RULES

__all__ = ["Caught", "caught", "page"]


@dataclass(frozen=True)
class Caught:
    """A mutant, the rules that it broke (the one named first is first), and those that its healthy subject broke."""

    mutant: Mutant
    failed: tuple[str, ...]
    healthy: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the expected rule was named first, and the healthy subject broke none."""
        return self.failed[:1] == (self.mutant.rule,) and not self.healthy


def caught(
    mutants: Iterable[Mutant], *, fast: bool = False, seed: int = 0, progress: Callable[[Caught], None] | None = None
) -> list[Caught]:
    """Check each mutant and its healthy subject, with all rules.

    Args:
        mutants: what to check.
        fast: fewer and shorter cases.
        seed: of the subjects and of the checks.
        progress: called with each result.
    """
    found = []
    for mutant in mutants:
        healthy = check(mutant.healthy(seed), assume=mutant.assume, fast=fast, seed=seed)
        broken = check(mutant.broken(seed), assume=mutant.assume, fast=fast, seed=seed)
        found.append(Caught(mutant, tuple(broken.failed), tuple(healthy.failed)))
        if progress is not None:
            progress(found[-1])
    return found


def page(results: Sequence[Caught]) -> str:
    """Return the page of the documentation: the table, and the report behind each mutant."""
    return "\n".join([*_head(results), *_table(results), *_reports(results), ""])


def _head(results: Sequence[Caught]) -> Iterator[str]:
    kinds, reports = ({getattr(one.mutant, name) for one in results} for name in ("kind", "report"))
    named = sum(one.ok for one in results)
    yield "# The mutants of check"
    yield ""
    yield (
        f"{_count(results, 'bug')} of {_count(kinds, 'kind')}, modelled on {_count(reports, 'public report')}, seeded "
        "into functions, modules and models that pass. Every rule is run on each of them; "
        f"the right rule is named first in {named}. This page is made by"
    )
    yield ""
    yield "```text"
    yield "PYTHONPATH=tests/conformance python -m regard.conformance.mutants \\"
    yield "    --also test_our_mutants:MUTANTS --out docs/check-mutants.md"
    yield "```"
    yield ""


def _count(things: Collection[Any], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _table(results: Sequence[Caught]) -> Iterator[str]:
    rules = [rule.id for rule in RULES if any(rule.id in one.failed for one in results)]
    yield "## Which rule caught what"
    yield ""
    yield "**X** is the rule that the report names first, x another one that is broken."
    yield ""
    yield f"| Mutant | {' | '.join(name.replace('_', ' ') for name in rules)} |"
    yield f"| --- |{' :-: |' * len(rules)}"
    for one in results:
        cells = ("**X**" if one.failed[:1] == (name,) else "x" if name in one.failed else "" for name in rules)
        yield f"| {one.mutant.name} | {' | '.join(cells)} |"
    yield ""


def _reports(results: Sequence[Caught]) -> Iterator[str]:
    yield "## What each is modelled on"
    yield ""
    yield "| Mutant | In | Kind | First rule | Report |"
    yield "| --- | --- | --- | --- | --- |"
    for one in results:
        mutant, first = one.mutant, one.failed[0] if one.failed else "none"
        report = f"[{mutant.report}]({mutant.url}): {mutant.report_says}"
        yield f"| {mutant.name} | {mutant.on} | {mutant.kind} | {first} | {report} |"
