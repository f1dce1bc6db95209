"""Which laws of attention were proved of the model, and which one is broken."""

from typing import Any

from regard.records import CheckedRule, CheckVerdict, Run
from regard.viewer.report.numbers import duration, plural

__all__ = ["checks"]

_GROUPS = {
    CheckVerdict.DEVIATION: ("Known deviations of PyTorch, documented", "fair"),
    CheckVerdict.PASS: ("Proved", "good"),
    CheckVerdict.NOT_TESTED: ("Could not be tested", "fair"),
    CheckVerdict.NOT_APPLICABLE: ("Does not apply", "info"),
}


def checks(run: Run) -> dict[str, Any]:
    """Return ``lead``, ``broken`` and ``groups`` of rules, ``assumptions`` and ``how``; ``missing`` where none ran."""
    if not run.has("checks"):
        return {"missing": "The laws of attention were not checked; `regard check RUN --out RUN` does it."}
    found = run.checks()
    broken = found.rules_with(CheckVerdict.FAIL)
    proved = len(found.rules_with(CheckVerdict.PASS))
    verdict = f"{plural(len(broken), 'law')} broken, first of all {broken[0].rule}" if broken else "No law is broken"
    groups = [
        {"name": name, "tone": tone, "rules": [_shown(rule) for rule in found.rules_with(kind)]}
        for kind, (name, tone) in _GROUPS.items()
    ]
    mode, was = "fast, " if found.fast else "", "was" if proved == 1 else "were"
    return {
        "lead": f"{verdict}; of {plural(len(found.rules), 'law')} {proved} {was} proved on {found.subject}.",
        "broken": [_shown(rule) for rule in broken],
        "groups": [group for group in groups if group["rules"]],
        "assumptions": found.assumptions,
        "how": "; ".join([*found.notes, f"{mode}seed {found.seed}, {duration(found.seconds)}"]),
    }


def _shown(rule: CheckedRule) -> dict[str, Any]:
    return {
        "rule": rule,
        "measured": "" if rule.measured is None else f"{rule.measured:.2g}",
        "tolerance": "" if rule.tolerance is None else f"{rule.tolerance:.2g}",
        "case": "" if rule.case is None else rule.case.words(),
    }
