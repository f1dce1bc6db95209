"""What a run folder says, each file read once; a file that is absent is a fact too."""

from functools import cached_property
from typing import Any

from pydantic import ValidationError

from regard._errors import RecordError, RegardError
from regard.records import Checks, Finding, Interval, ModelScore, Run, RunInfo, Status

__all__ = ["Facts", "NotRecordedError", "pick"]

_HOW = {
    "audit": "the training job writes it before its first step",
    "split": "the training job writes it before its first step",
    "metrics": "the training job writes it after its last step",
    "findings": "run `regard diagnose` on this folder",
    "checks": "run `regard check` on this folder with --out",
}


class NotRecordedError(RegardError):
    """The run folder does not hold what an item asks for; the message says what would write it."""


class Facts:
    """The records of one run, for the items of the checklist.

    Every property raises ``NotRecordedError`` if its file is absent and ``RecordError`` if the file is damaged.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def info(self) -> RunInfo:
        """``run.json``."""
        return self._run.info

    @cached_property
    def audit(self) -> dict[str, Any]:
        """``audit.json``: what the data looked like."""
        return self._mapping("audit")

    @cached_property
    def split(self) -> dict[str, Any]:
        """``split.json``: which row went where."""
        return self._mapping("split")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``: what the model and the baselines scored."""
        return self._mapping("metrics")

    @cached_property
    def scores(self) -> list[ModelScore]:
        """The table of models, the trained one first."""
        rows = pick(self.metrics, "metrics.json", "models")
        try:
            scores = [ModelScore.model_validate(row) for row in rows]
        except (TypeError, ValidationError) as error:
            raise RecordError(f"metrics.json must hold a list of model scores, got something else: {error}") from error
        if not scores:
            raise RecordError("metrics.json must hold the trained model's scores first, got no model; evaluate again.")
        return scores

    def metric(self, name: str) -> Interval | None:
        """Return a metric of the trained model, or None if it was not computed."""
        return self.scores[0].metrics.get(name)

    @cached_property
    def findings(self) -> list[Finding]:
        """``findings.json``: what ``diagnose`` found."""
        self._require("findings")
        return self._run.findings()

    @cached_property
    def checks(self) -> Checks:
        """``checks.json``: what ``check`` proved of the model."""
        self._require("checks")
        return self._run.checks()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events called ``name``; at least one."""
        found = list(self._run.events(name))
        if not found:
            raise NotRecordedError(f"events.jsonl holds no {name!r} event; {self._how('the training job writes it')}")
        return found

    def optional(self, name: str) -> dict[str, Any] | None:
        """Return ``<name>.json``, or None where it was not written."""
        return self._mapping(name) if self._run.has(name) else None

    def _mapping(self, name: str) -> dict[str, Any]:
        self._require(name)
        content = self._run.read(name)
        if not isinstance(content, dict):
            raise RecordError(f"{name}.json must hold a JSON object, got {type(content).__name__}; write it again.")
        return content

    def _require(self, name: str) -> None:
        if not self._run.has(name):
            raise NotRecordedError(f"{name}.json is absent; {self._how(_HOW[name])}")

    def _how(self, normally: str) -> str:
        if self.info.status in (Status.RUNNING, Status.INTERRUPTED):
            return f"{normally}, and this run is {self.info.status.value}: let it come to its end"
        return normally


def pick(content: Any, file: str, *path: str) -> Any:
    """Return ``content[path[0]][path[1]]…``.

    Raises:
        RecordError: ``file`` does not hold it.
    """
    for depth, key in enumerate(path):
        if not isinstance(content, dict) or key not in content:
            where = ".".join(path[: depth + 1])
            raise RecordError(f"{file} must hold {where!r}, got none; write it again with this version of regard.")
        content = content[key]
    return content
