"""What is wrong: findings with evidence and remedy, and which rules could be judged."""

from typing import Any

from regard.records import Evidence, Finding, Run, Severity
from regard.viewer.report.numbers import number

__all__ = ["diagnosis"]


def diagnosis(run: Run) -> dict[str, Any]:
    """Return ``findings``, ``counts``, ``judged`` and ``not_judged``; ``missing`` where nobody looked."""
    if not run.has("findings"):
        return {"missing": "The run was not diagnosed; `regard diagnose` does it from its files."}
    findings = run.findings()
    section: dict[str, Any] = {
        "findings": [_shown(finding) for finding in findings],
        "counts": {severity.value: sum(one.severity is severity for one in findings) for severity in Severity},
        "rules": run.read("diagnosis") if run.has("diagnosis") else None,
    }
    if section["rules"] is not None:
        with_finding = {finding.rule for finding in findings}
        section["clean"] = [rule for rule in section["rules"]["judged"] if rule["rule"] not in with_finding]
        section["not_judged"] = section["rules"]["not_judged"]
    return section


def _shown(finding: Finding) -> dict[str, Any]:
    return {"finding": finding, "evidence": [_evidence(one) for one in finding.evidence]}


def _evidence(one: Evidence) -> dict[str, str]:
    where = " ".join([one.layer or "", f"head {one.head}" if one.head is not None else ""]).strip()
    return {
        "where": where,
        "statistic": one.statistic.replace("_", " "),
        "value": number(one.value),
        "threshold": number(one.threshold) if one.threshold is not None else "",
        "step": f"{one.step:,}" if one.step is not None else "",
        "note": one.note or "",
        "source": one.source,
    }
