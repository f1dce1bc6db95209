"""``checks.json``: which laws of attention were proved of a subject, to what tolerance, and which are broken."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regard._errors import RecordError
from regard.records.reading import first_problem, read_json

__all__ = ["CHECKS_VERSION", "CheckCase", "CheckVerdict", "CheckedRule", "Checks"]

CHECKS_VERSION = 1
WHOLE_MODULE = "the module"
"""Stands for the dotted name of a layer where the subject itself is the layer."""


class CheckVerdict(StrEnum):
    """The answer of a rule.

    ``deviation`` is a known and documented departure of PyTorch's own from the law: it is reported, and it is nobody's
    mistake.
    """

    PASS = "pass"
    FAIL = "fail"
    DEVIATION = "deviation"
    NOT_APPLICABLE = "not applicable"
    NOT_TESTED = "could not test"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckCase(_Record):
    """The smallest failing case: what is known of it is set, the rest is None."""

    length: int | None = Field(default=None, description="tokens of the sequence")
    stream: str | None = Field(default=None, description="which input of the subject, such as 'decoder'")
    layer: str | None = Field(default=None, description="dotted name of the attention layer where it begins")
    head: int | None = None
    query: int | None = Field(default=None, description="position whose output is wrong")
    key: int | None = Field(default=None, description="position that it must not depend on, or that it misses")

    def words(self) -> str:
        """Return what is known of it, with commas between."""
        told = [
            ("{} tokens", self.length),
            ("input {}", self.stream),
            ("{}" if self.layer == WHOLE_MODULE else "layer {}", self.layer),
            ("head {}", self.head),
            ("query {}", self.query),
            ("key {}", self.key),
        ]
        return ", ".join(words.format(value) for words, value in told if value is not None)


class CheckedRule(_Record):
    """One law and what was found."""

    rule: str
    title: str
    law: str
    verdict: CheckVerdict
    summary: str = Field(description="what was seen, one sentence; for what was not tested, why")
    measured: float | None = Field(default=None, description="None also where it was not finite")
    tolerance: float | None = None
    ways: list[str] = Field(default_factory=list, description="the independent ways in which it was tested")
    case: CheckCase | None = None
    meaning: str | None = Field(default=None, description="of a failure: what it usually means")
    remedy: str | None = Field(default=None, description="of a failure or deviation: what to do")
    reproduction: str | None = Field(default=None, description="of a failure: lines of Python that show it")
    explained_by: list[str] = Field(default_factory=list, description="broken rules that usually break this one too")
    seconds: float = 0.0


class Checks(_Record):
    """``checks.json``: what was checked, what was assumed of it, and each rule, the broken ones first."""

    schema_version: int = CHECKS_VERSION
    subject: str
    target: str | None = Field(default=None, description="where it came from: a folder or an import path")
    kind: str = Field(description="'function', 'module' or 'model'")
    ok: bool = Field(description="no rule is broken")
    seed: int
    fast: bool
    assumptions: list[str] = Field(default_factory=list, description="what was taken to be so, and why")
    notes: list[str] = Field(default_factory=list, description="how it was checked")
    rules: list[CheckedRule]
    seconds: float

    @classmethod
    def load(cls, path: Path | str) -> "Checks":
        """Read a file.

        Raises:
            RecordError: it is absent, damaged or of another schema version.
        """
        path = Path(path)
        content = read_json(path, "A file that `regard check --out` wrote is needed")
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != CHECKS_VERSION:
            raise RecordError(
                f"{path} must have schema version {CHECKS_VERSION}, got {version}; "
                "open it with the version of regard that wrote it or check again."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecordError(f"{path} does not hold the result of a check: {first_problem(error)}") from error

    def headline(self) -> str:
        """Return what was found in one sentence."""
        broken = self.rules_with(CheckVerdict.FAIL)
        what = f"{self.subject} ({self.kind})"
        if broken:
            return f"{what}: {_count(broken)} broken, first of all {broken[0].rule}."
        untested = len(self.rules_with(CheckVerdict.NOT_TESTED))
        rest = f", {untested} could not be tested" if untested else ""
        return f"{what}: no rule is broken, {_count(self.rules_with(CheckVerdict.PASS))} proved{rest}."

    def rules_with(self, verdict: CheckVerdict) -> list[CheckedRule]:
        """Return the rules with this verdict, in the order of the report."""
        return [rule for rule in self.rules if rule.verdict is verdict]


def _count(rules: list[CheckedRule]) -> str:
    return "1 rule is" if len(rules) == 1 else f"{len(rules)} rules are"
