"""What it takes to run it again: command, config, seeds, versions, machine."""

import json
from collections.abc import Mapping
from typing import Any

from regard.records import Run

__all__ = ["reproduce"]


def reproduce(run: Run) -> dict[str, Any]:
    """Return ``command``, ``tables`` (name -> rows) and ``config`` as indented JSON."""
    info = run.info
    origin = {"run": info.name, "recipe": info.recipe, "created": info.created, "status": info.status.value}
    if info.git_commit:
        origin["git commit"] = info.git_commit
    tables: dict[str, Mapping[str, Any]] = {"Run": origin, "Seeds": info.seeds}
    tables |= {"Device": info.device, "Versions": info.versions}
    return {
        "command": _command(run),
        "tables": [(name, _rows(table)) for name, table in tables.items() if table],
        "config": json.dumps(info.config, indent=2, ensure_ascii=False) if info.config else "",
    }


def _command(run: Run) -> str:
    recipe = run.info.recipe
    commands = {"demo": "regard demo", "demo-fast": "regard demo --fast"}
    return commands.get(recipe, f"regard train {recipe}") + f" --out {run.folder.name}"


def _rows(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name).replace("_", " "), str(value)) for name, value in table.items()]
