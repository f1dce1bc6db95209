"""What a rule is: one law of attention, how it is put to the test, and what it means when it is broken."""

from abc import ABC, abstractmethod
from typing import ClassVar

from regard.conformance.bench import Bench
from regard.conformance.outcome import NotApplicableError, Outcome
from regard.conformance.subjects.subject import Subject

__all__ = ["Rule"]


class Rule(ABC):
    """One law.

    Attributes:
        id: name of the law, the same in every report.
        title: the law in a few words.
        law: what holds.
        why: why it matters and where it is written.
        method: how it is tested, each of the independent ways.
        tolerance: what is still called equal, and where that comes from.
        meaning: what a failure usually means.
        remedy: what to do about it.
        kinds: kinds of subjects that it can say something about.
        after: ids of rules that, when they are broken, usually explain that this one is broken too.
        first: it is tested before the others, as they need what it finds out.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    law: ClassVar[str]
    why: ClassVar[str]
    method: ClassVar[str]
    tolerance: ClassVar[str]
    meaning: ClassVar[str]
    remedy: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("function", "module", "model")
    after: ClassVar[tuple[str, ...]] = ()
    first: ClassVar[bool] = False

    def applies(self, subject: Subject) -> None:
        """Return if the law says something about ``subject``.

        Raises:
            NotApplicableError: it does not; the message says why.
        """
        if subject.kind not in self.kinds:
            raise NotApplicableError(f"it says nothing about a {subject.kind}")

    @abstractmethod
    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Put the law to the test.

        Raises:
            NotApplicableError: the law turns out to say nothing about the subject.
            NotTestedError: something stood in the way.
        """
        ...
