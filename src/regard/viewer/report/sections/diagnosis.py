"""What is wrong: findings with evidence and remedy, and which rules could be judged."""

from typing import Any

from regard.records import Evidence, Finding, Run, Severity
from regard.viewer.report.layers import short_names
from regard.viewer.report.numbers import number

__all__ = ["diagnosis"]

_MAX_LABEL_ROWS = 3


def diagnosis(run: Run) -> dict[str, Any]:
    """Return ``findings``, ``counts``, ``judged`` and ``not_judged``; ``missing`` where nobody looked."""
    if not run.has("findings"):
        return {"missing": "The run was not diagnosed; `regard diagnose` does it from its files."}
    findings = run.findings()
    section: dict[str, Any] = {
        "findings": [_shown(finding, _names(run)) for finding in findings],
        "counts": {severity.value: sum(one.severity is severity for one in findings) for severity in Severity},
        "rules": run.read("diagnosis") if run.has("diagnosis") else None,
    }
    if section["rules"] is not None:
        with_finding = {finding.rule for finding in findings}
        section["clean"] = [rule for rule in section["rules"]["judged"] if rule["rule"] not in with_finding]
        section["not_judged"] = section["rules"]["not_judged"]
    return section


def _names(run: Run) -> dict[str, str]:
    return short_names([entry["layer"] for entry in run.info.coverage if entry.get("layer")])


def _shown(finding: Finding, names: dict[str, str]) -> dict[str, Any]:
    shown = _MAX_LABEL_ROWS if finding.severity is Severity.INFO else len(finding.evidence)
    return {
        "finding": finding,
        "where": [_short(place, names) for place in finding.where],
        "evidence": [_evidence(one, names) for one in finding.evidence[:shown]],
        "num_left_out": max(0, len(finding.evidence) - shown),
    }


def _short(place: str, names: dict[str, str]) -> str:
    """Shorten the layer of ``place``, which is its name or its name and a head."""
    layer, head, number_of_head = place.partition(" head ")
    return f"{names.get(layer, layer)}{head}{number_of_head}"


def _evidence(one: Evidence, names: dict[str, str]) -> dict[str, str]:
    layer = names.get(one.layer, one.layer) if one.layer else ""
    return {
        "where": " ".join([layer, f"head {one.head}" if one.head is not None else ""]).strip(),
        "statistic": one.statistic.replace("_", " "),
        "value": number(one.value),
        "threshold": number(one.threshold) if one.threshold is not None else "",
        "step": f"{one.step:,}" if one.step is not None else "",
        "note": one.note or "",
        "source": one.source,
    }
