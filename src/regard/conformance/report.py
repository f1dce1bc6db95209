"""What a check found: every rule with its outcome, the broken ones first."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from regard.conformance.outcome import Outcome, Verdict
from regard.conformance.rule import Rule
from regard.conformance.wording import worded
from regard.records import CheckCase, CheckedRule, Checks

__all__ = ["Checked", "Report"]

_ORDER = (Verdict.FAIL, Verdict.DEVIATION, Verdict.PASS, Verdict.NOT_TESTED, Verdict.NOT_APPLICABLE)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A rule, what it found and how long that took.

    Attributes:
        rule: the rule.
        outcome: what it found.
        seconds: how long it took.
        explained_by: broken rules that usually break this one too.
    """

    rule: Rule
    outcome: Outcome
    seconds: float = 0.0
    explained_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What ``check`` found; ``str`` of it is the text for a person.

    Attributes:
        subject: name of what was checked.
        kind: ``"function"``, ``"module"`` or ``"model"``.
        verdicts: rule id -> verdict, in the order of the report.
        failed: the broken rules, the one that is most likely the cause first.
        assumptions: what was taken to be so of the subject, and why.
        notes: how it was checked.
        checked: every rule with its outcome, broken ones first.
        seconds: how long the check took.
    """

    subject: str
    kind: str
    checked: Sequence[Checked]
    assumptions: Sequence[str] = ()
    notes: Sequence[str] = ()
    seed: int = 0
    fast: bool = False
    seconds: float = 0.0
    verdicts: dict[str, Verdict] = field(init=False)

    def __post_init__(self) -> None:
        ranked = _ranked(self.checked)
        object.__setattr__(self, "checked", ranked)
        object.__setattr__(self, "verdicts", {one.rule.id: one.outcome.verdict for one in ranked})

    @property
    def ok(self) -> bool:
        """Whether no rule is broken."""
        return not self.failed

    @property
    def failed(self) -> list[str]:
        """Ids of the broken rules, the one that is most likely the cause first."""
        return [name for name, verdict in self.verdicts.items() if verdict is Verdict.FAIL]

    def __getitem__(self, rule: str) -> Outcome:
        return next(one.outcome for one in self.checked if one.rule.id == rule)

    def record(self) -> Checks:
        """Return what ``checks.json`` holds."""
        return Checks(
            subject=self.subject,
            kind=self.kind,
            ok=self.ok,
            seed=self.seed,
            fast=self.fast,
            assumptions=list(self.assumptions),
            notes=list(self.notes),
            rules=[_record(one) for one in self.checked],
            seconds=round(self.seconds, 3),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values, as JSON has them."""
        return self.record().model_dump(mode="json")

    def __str__(self) -> str:
        return worded(self.record())


def _ranked(checked: Sequence[Checked]) -> list[Checked]:
    """Return broken rules first, those that another broken rule explains after the others; each in the given order."""
    broken = {one.rule.id for one in checked if one.outcome.verdict is Verdict.FAIL}
    explained = [
        Checked(
            rule=one.rule,
            outcome=one.outcome,
            seconds=one.seconds,
            explained_by=tuple(name for name in one.rule.after if name in broken) if one.rule.id in broken else (),
        )
        for one in checked
    ]
    return sorted(explained, key=lambda one: (_ORDER.index(one.outcome.verdict), bool(one.explained_by)))


def _record(one: Checked) -> CheckedRule:
    rule, outcome = one.rule, one.outcome
    broken = outcome.verdict is Verdict.FAIL
    return CheckedRule(
        rule=rule.id,
        title=rule.title,
        law=rule.law,
        verdict=outcome.verdict,
        summary=outcome.summary,
        measured=_finite(outcome.measured),
        tolerance=_finite(outcome.tolerance),
        ways=list(outcome.ways),
        case=None if outcome.case is None else CheckCase(**asdict(outcome.case)),
        meaning=(outcome.meaning or rule.meaning) if broken else None,
        remedy=(outcome.remedy or rule.remedy) if broken else outcome.remedy,
        reproduction=outcome.reproduction,
        explained_by=list(one.explained_by),
        seconds=round(one.seconds, 3),
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
