"""What a rule found: a verdict, the measured number beside its tolerance, and the smallest case that shows it."""

from dataclasses import dataclass

from regard._errors import RegardError
from regard.records import CheckVerdict

__all__ = [
    "Case",
    "NotApplicableError",
    "NotTestedError",
    "Outcome",
    "Verdict",
    "counted",
    "deviates",
    "failed",
    "passed",
]


Verdict = CheckVerdict
"""The answer of a rule."""


class NotApplicableError(RegardError):
    """The law says nothing about this subject; the message says why."""


class NotTestedError(RegardError):
    """The law could not be put to the test; the message says what stood in the way."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return "1 call", "2 calls"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """The smallest failing case: what is known of it is set, the rest is None.

    Attributes:
        length: number of tokens of the sequence.
        stream: which input of the subject, such as ``"decoder"``.
        layer: dotted name of the attention layer where it begins.
        head: query head.
        query: position whose output is wrong.
        key: position that it should not depend on, or that it misses.
    """

    length: int | None = None
    stream: str | None = None
    layer: str | None = None
    head: int | None = None
    query: int | None = None
    key: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one rule found.

    Attributes:
        verdict: the answer.
        summary: what was seen, one sentence with the numbers.
        measured: the number that was held against the tolerance.
        tolerance: the largest number that passes.
        case: the smallest failing case.
        ways: the independent ways in which it was tested, in words.
        reproduction: a few lines of Python that show the failure.
        meaning: what this failure usually means, where it is known better than the rule's general word.
        remedy: likewise what to do.
    """

    verdict: Verdict
    summary: str
    measured: float | None = None
    tolerance: float | None = None
    case: Case | None = None
    ways: tuple[str, ...] = ()
    reproduction: str | None = None
    meaning: str | None = None
    remedy: str | None = None


def passed(
    summary: str, *, measured: float | None = None, tolerance: float | None = None, ways: tuple[str, ...] = ()
) -> Outcome:
    """Return that the law holds."""
    return Outcome(verdict=Verdict.PASS, summary=summary, measured=measured, tolerance=tolerance, ways=ways)


def failed(
    summary: str,
    *,
    measured: float | None = None,
    tolerance: float | None = None,
    case: Case | None = None,
    ways: tuple[str, ...] = (),
    reproduction: str | None = None,
    meaning: str | None = None,
    remedy: str | None = None,
) -> Outcome:
    """Return that the law is broken."""
    return Outcome(
        verdict=Verdict.FAIL,
        summary=summary,
        measured=measured,
        tolerance=tolerance,
        case=case,
        ways=ways,
        reproduction=reproduction,
        meaning=meaning,
        remedy=remedy,
    )


def deviates(summary: str, *, ways: tuple[str, ...] = (), remedy: str | None = None) -> Outcome:
    """Return that PyTorch departs from the law here, as it documents."""
    return Outcome(verdict=Verdict.DEVIATION, summary=summary, ways=ways, remedy=remedy)
