"""Judge a run by every rule, and say what could not be judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.diagnose.dead_head import DeadHead
from regard.diagnose.entropy_collapse import EntropyCollapse
from regard.diagnose.exploding_gradient import ExplodingGradient
from regard.diagnose.loss_not_finite import LossNotFinite
from regard.diagnose.loss_spike import LossSpike
from regard.diagnose.overfitting import Overfitting
from regard.diagnose.padding_attended import PaddingAttended
from regard.diagnose.rank_collapse import RankCollapse
from regard.diagnose.rule import Found, NotJudgedError, Rule
from regard.diagnose.saturated_softmax import SaturatedSoftmax
from regard.diagnose.sink_head import SinkHead
from regard.diagnose.vanishing_gradient import VanishingGradient
from regard.records import Finding, Run, Severity

__all__ = ["RULES", "Diagnosis", "diagnose"]

RULES: tuple[Rule, ...] = (
    LossNotFinite(),
    PaddingAttended(),
    LossSpike(),
    EntropyCollapse(),
    SaturatedSoftmax(),
    VanishingGradient(),
    ExplodingGradient(),
    RankCollapse(),
    DeadHead(),
    Overfitting(),
    SinkHead(),
)
"""Every rule; the order decides between findings of equal severity and strength."""

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the rules say about a run.

    Attributes:
        findings: errors first, then warnings, then labels; within one severity the strongest first.
        judged: ids of the rules that the records allowed to judge, with or without a finding.
        not_judged: ids of the other rules and why.
    """

    findings: list[Finding] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    not_judged: dict[str, str] = field(default_factory=dict)

    def to_dict(self, rules: Sequence[Rule] = RULES) -> dict[str, Any]:
        """Return the content of ``diagnosis.json``: every rule with what it states, and whether it was judged."""
        named: Mapping[str, Rule] = {rule.id: rule for rule in rules}
        return {
            "schema_version": 1,
            "judged": [
                {"rule": name, "title": named[name].title, "states": named[name].states} for name in self.judged
            ],
            "not_judged": [
                {"rule": name, "title": named[name].title, "states": named[name].states, "reason": reason}
                for name, reason in self.not_judged.items()
            ],
        }


def diagnose(run: Run, *, rules: Sequence[Rule] = RULES) -> Diagnosis:
    """Judge ``run`` by ``rules`` over its records alone; nothing is computed again and nothing is written.

    Args:
        run: the run, finished or not.
        rules: which rules; all by default.

    Returns:
        The findings, ranked, and which rules were judged. Write them with ``run.write_findings(diagnosis.findings)``
        and ``run.write("diagnosis", diagnosis.to_dict())``.

    Raises:
        RecordError: a file of the run is damaged.

    Example:
        >>> from regard.records import Run
        >>> run = Run.create(tmp_path / "sick", recipe="text-classifier")
        >>> run.event("step", step=1, loss=float("nan"))
        >>> diagnosis = diagnose(run)
        >>> diagnosis.findings[0].title
        'The loss is not a number from step 1'
        >>> diagnosis.not_judged["dead_head"]
        'no head statistics were recorded; train with watch on'
    """
    everything: list[Found] = []
    judged: list[str] = []
    not_judged: dict[str, str] = {}
    for rule in rules:
        try:
            everything += rule.judge(run)
        except NotJudgedError as reason:
            not_judged[rule.id] = str(reason)
        else:
            judged.append(rule.id)
    everything.sort(key=lambda one: (_RANK[one.finding.severity], -one.strength))
    return Diagnosis(findings=[one.finding for one in everything], judged=judged, not_judged=not_judged)
