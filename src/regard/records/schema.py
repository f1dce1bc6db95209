"""What the files of a run folder hold, as pydantic models that validate on reading and on writing."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Evidence",
    "Finding",
    "Interval",
    "ModelScore",
    "ReadinessItem",
    "RunInfo",
    "Severity",
    "Status",
    "Verdict",
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Status(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"


class Severity(StrEnum):
    """How much a finding matters: ``info`` is a label, not an alarm."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Verdict(StrEnum):
    """The answer of one item of the readiness gate."""

    PASS = "pass"
    FAIL = "fail"
    NOT_DONE = "not done"


class RunInfo(_Record):
    """``run.json``: what ran, on what, and how it ended."""

    schema_version: int
    name: str
    recipe: str
    task: str = Field(default="text classification", description="what the model is trained for")
    status: Status = Status.RUNNING
    created: str = Field(description="UTC, ISO 8601")
    config: dict[str, Any] = Field(default_factory=dict, description="the whole recipe, JSON round trip")
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict, description="of Python, regard, torch and the platform")
    device: dict[str, Any] = Field(default_factory=dict, description="type, name, cores, instruction set, precision")
    kernels: dict[str, int] = Field(default_factory=dict, description="attention kernel that ran: number of calls seen")
    coverage: list[dict[str, Any]] = Field(default_factory=list, description="each attention module: seen, or why not")
    git_commit: str | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    message: str | None = Field(default=None, description="why a run failed or stopped, in one sentence")


class Interval(_Record):
    """A measured value with its confidence interval; ``value`` is None where the metric is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = Field(default=None, description="why the value is undefined or how it was made")


class ModelScore(_Record):
    """One row of the table of models: the trained model, a baseline."""

    name: str
    kind: str = Field(description="'model' or 'baseline'")
    metrics: dict[str, Interval]
    details: dict[str, Any] = Field(default_factory=dict, description="chosen hyperparameters, seconds, parameters")


class Evidence(_Record):
    """A pointer into the records that a person can look up again."""

    source: str = Field(description="'heads', 'events', 'metrics', 'audit'")
    statistic: str
    value: float | None
    threshold: float | None = None
    step: int | None = None
    layer: str | None = None
    head: int | None = None
    note: str | None = None


class Finding(_Record):
    """What a rule of ``diagnose`` found."""

    rule: str
    severity: Severity
    title: str = Field(description="one line that a person understands without the rule's name")
    cause: str
    remedy: str
    where: list[str] = Field(default_factory=list, description="'encoder.layer.3 head 5', most affected first")
    evidence: list[Evidence] = Field(default_factory=list)
    reference: str | None = None


class ReadinessItem(_Record):
    """One item of the production checklist."""

    id: str
    section: str
    title: str
    verdict: Verdict
    evidence: str = Field(description="the measured fact, or what would have to be done")
    link: str | None = Field(default=None, description="file of the run folder that holds the evidence")
