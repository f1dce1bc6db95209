"""What an item of the checklist is: a question, a function that answers it, and the file that holds the evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from regard.readiness.facts import Facts
from regard.records import ReadinessItem, Verdict

__all__ = ["Answer", "Item", "judged", "not_done"]


class Answer(NamedTuple):
    """A verdict and the measured fact behind it, or what would have to be done."""

    verdict: Verdict
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of the checklist.

    Attributes:
        id: stable name, ``<section>.<question>``.
        title: what is true if the item passes.
        judge: answers from the facts of a run; a file that is absent raises ``NotRecordedError``, which is "not done".
        link: file of the run folder that holds the evidence.
        tasks: the tasks of ``run.json`` that it is asked of; None for all.
    """

    id: str
    title: str
    judge: Callable[[Facts], Answer]
    link: str | None = None
    tasks: tuple[str, ...] | None = None

    def concerns(self, task: str) -> bool:
        """Whether it is asked of a run of ``task``."""
        return self.tasks is None or task in self.tasks

    def answered(self, answer: Answer, *, section: str) -> ReadinessItem:
        """Return the record of ``answer``."""
        return ReadinessItem(
            id=self.id,
            section=section,
            title=self.title,
            verdict=answer.verdict,
            evidence=answer.evidence,
            link=self.link,
        )


def judged(passes: bool, evidence: str) -> Answer:
    """Answer pass or fail."""
    return Answer(Verdict.PASS if passes else Verdict.FAIL, evidence)


def not_done(evidence: str) -> Answer:
    """Answer that nothing was measured, with what to do about it."""
    return Answer(Verdict.NOT_DONE, evidence)
