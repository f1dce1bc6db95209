"""The production checklist, grouped as the gate groups it."""

from typing import Any

from regard.records import Run, Verdict
from regard.viewer.report.outcome import outcome

__all__ = ["readiness"]

_TONES = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.NOT_DONE: "fair"}


def readiness(run: Run) -> dict[str, Any]:
    """Return ``groups`` of items and the ``outcome``; ``missing`` where the gate was not run."""
    if not run.has("readiness"):
        return {"missing": "The checklist was not run; `regard ready` does it from the files of the run."}
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in run.readiness():
        link = item.link if item.link and (run.folder / item.link).exists() else None
        groups.setdefault(item.section, []).append({"item": item, "tone": _TONES[item.verdict], "link": link})
    return {
        "groups": [
            {"name": name, "items": items, "passed": sum(one["tone"] == "good" for one in items)}
            for name, items in groups.items()
        ],
        "outcome": outcome(run),
    }
