"""What a rule is: a statement about attention that the records of a run can contradict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from regard._errors import RegardError
from regard.records import Evidence, Finding, Run, Severity

__all__ = ["Found", "NotJudgedError", "Rule", "found"]

_MAX_PLACES = 12
_MAX_EVIDENCE = 6


class NotJudgedError(RegardError):
    """The records do not hold what a rule needs; the message says what is missing and what would record it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A finding and how strong it is, to rank it among others of the same severity.

    Attributes:
        finding: what is written to ``findings.json``.
        strength: share of what was judged that is affected, 0 to 1.
    """

    finding: Finding
    strength: float


@runtime_checkable
class Rule(Protocol):
    """One phenomenon: how it shows in the records, why it matters, and what to do about it.

    Attributes:
        id: name of the phenomenon, the same in every room.
        title: the phenomenon in a few words.
        severity: the highest severity that the rule gives.
        states: what a healthy run satisfies, with the threshold.
        cause: why it happens.
        remedy: what to try, the least invasive first.
        reference: papers with arXiv numbers.
    """

    id: str
    title: str
    severity: Severity
    states: str
    cause: str
    remedy: str
    reference: str

    def judge(self, run: Run) -> Sequence[Found]:
        """Return what contradicts the rule; empty if nothing does.

        Raises:
            NotJudgedError: the records do not hold what the rule needs.
        """
        ...


def found(
    rule: Rule,
    *,
    severity: Severity,
    title: str,
    strength: float,
    where: Sequence[str] = (),
    evidence: Sequence[Evidence] = (),
    cause: str | None = None,
    remedy: str | None = None,
) -> Found:
    """Make a finding of ``rule``.

    Args:
        rule: whose finding it is.
        severity: how much it matters here.
        title: one line with the numbers.
        strength: share of what was judged that is affected, 0 to 1.
        where: all affected places, worst first; the finding names the first 12 and counts the rest.
        evidence: pointers into the records, worst first; the finding keeps the first 6.
        cause: why, if this case differs from the rule's general cause.
        remedy: what to do, if this case differs from the rule's general remedy.
    """
    places = list(where[:_MAX_PLACES])
    if len(where) > _MAX_PLACES:
        places.append(f"and {len(where) - _MAX_PLACES} more")
    finding = Finding(
        rule=rule.id,
        severity=severity,
        title=title,
        cause=rule.cause if cause is None else cause,
        remedy=rule.remedy if remedy is None else remedy,
        where=places,
        evidence=list(evidence[:_MAX_EVIDENCE]),
        reference=rule.reference,
    )
    return Found(finding=finding, strength=strength)
