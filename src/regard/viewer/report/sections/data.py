"""The data audit: what the model learned from and was tested on."""

from typing import Any

from regard.records import Run
from regard.viewer.report.charts import Figure, label_bars, length_histogram
from regard.viewer.report.numbers import count, percent

__all__ = ["data"]


def data(run: Run) -> dict[str, Any]:
    """Return ``summary``, ``warnings``, ``figures``, ``splits`` and ``leaks`` of ``audit.json``."""
    if not run.has("audit"):
        return {"missing": "audit.json was not written, so nothing is known about the data of this run."}
    audit = run.read("audit")
    splits = audit["splits"]
    labelled = {name: split["labels"] for name, split in splits.items() if split.get("labels")}
    figures = [label_bars(labelled)] if labelled else []
    figures += _lengths(audit)
    return {
        "summary": [_labelled(line) for line in audit["summary"]],
        "warnings": [_unbroken(warning) for warning in audit["warnings"]],
        "figures": figures,
        "splits": [_row(name, split) for name, split in splits.items()],
        "leaks": _leaks(audit.get("leaks", {})),
    }


def _lengths(audit: dict[str, Any]) -> list[Figure]:
    """Return how long rows are, where they are of unlike length: windows of a series are not."""
    splits = audit["splits"]
    first = next(iter(splits.values())).get("length")
    if first is None:
        return []
    marks = {"median": first["median"], "95 %": first["p95"]}
    if audit.get("max_len"):
        marks["cut at"] = audit["max_len"]
    lengths = {name: split["length"]["histogram"] for name, split in splits.items()}
    rows = "sequences" if first["unit"] == "frames" else "documents"
    return [length_histogram(lengths, unit=first["unit"], marks=marks, rows=rows)]


def _labelled(line: str) -> tuple[str, str]:
    """Split a line of the summary into what it speaks of and what it says."""
    name, colon, rest = _unbroken(line).partition(":")
    return (name, rest.strip()) if colon and len(name) <= 40 else ("", _unbroken(line))


def _unbroken(text: str) -> str:
    """Keep a number and its percent sign on one line."""
    return text.replace(" %", "\u00a0%")


def _row(name: str, split: dict[str, Any]) -> dict[str, str]:
    length = split.get("length", {})
    return {
        "name": name,
        "rows": count(split["num_rows"]),
        "labels": count(len(split["labels"])) if split.get("labels") else "–",
        "empty": count(split.get("num_empty", 0)),
        "median": count(length["median"]) if length else "–",
        "p95": count(length["p95"]) if length else "–",
        "longest": count(length["max"]) if length else "–",
        "truncated": percent(split.get("truncated_share")),
    }


def _leaks(leaks: dict[str, list[dict[str, Any]]]) -> list[dict[str, str | bool]]:
    found: list[dict[str, str | bool]] = []
    exact = "word for word" if leaks.get("near") is not None else "value for value"
    for kind, told in (("exact", exact), ("near", "nearly")):
        for entry in leaks.get(kind, []):
            first, second = entry["splits"]
            examples = "; ".join(" = ".join(str(row) for row in pair) for pair in entry.get("examples", [])[:3])
            found.append(
                {
                    "what": f"{second} in {first}, {told}",
                    "count": count(entry["count"]),
                    "share": percent(entry.get("share_of_test"), 2),
                    "examples": examples or "–",
                    "clean": entry["count"] == 0,
                }
            )
    return found
