"""What a mutant is: a correct subject, a small patch that breaks it, and the public report of the same bug."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Mutant"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A bug that was seeded into a correct subject.

    Attributes:
        name: of the mutant, unique.
        kind: what sort of bug it is, the same word for the same sort.
        report: a public report of the same bug, ``owner/repository#number``.
        report_says: what that report says, in one sentence.
        on: what it is seeded into.
        rule: id of the rule that must be named first.
        healthy: seed -> the correct subject.
        mutate: the patch: healthy subject -> broken subject; it may change what it is given.
        assume: what a person would have to tell ``check`` about the subject.
    """

    name: str
    kind: str
    report: str
    report_says: str
    on: str
    rule: str
    healthy: Callable[[int], Any]
    mutate: Callable[[Any], Any]
    assume: Mapping[str, Any] = field(default_factory=dict)

    def broken(self, seed: int = 0) -> Any:
        """Return the broken subject."""
        return self.mutate(self.healthy(seed))

    @property
    def url(self) -> str:
        """Where the report is; GitHub leads from an issue's address to a pull request of that number."""
        repository, number = self.report.split("#")
        return f"https://github.com/{repository}/issues/{number}"
