"""What it takes to run it again: command, config, seeds, versions, machine."""

import json
from collections.abc import Mapping
from shlex import quote
from typing import Any

from regard.records import Run

__all__ = ["reproduce"]

_OTHER_LOOPS = ("hugging-face", "lightning")


def reproduce(run: Run) -> dict[str, Any]:
    """Return ``command`` (empty where the loop was not ours), ``tables`` (name -> rows) and ``config`` as JSON."""
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
    """Return the command of the recipe; what else was set stands in the config. Other people's loops have none."""
    if run.info.recipe in _OTHER_LOOPS:
        return ""
    recipe, data = run.info.recipe, run.info.config.get("data", {})
    commands = {"demo": "regard demo", "demo-fast": "regard demo --fast"}
    command = commands.get(recipe, f"regard train {recipe}")
    if recipe not in commands:
        settings = {name: data.get(name) for name in ("source", "name", "path", "test_path", "text", "label")}
        command += "".join(f" --set data.{name}={quote(str(value))}" for name, value in settings.items() if value)
    return f"{command} --out {quote(str(run.folder))}"


def _rows(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name).replace("_", " "), str(value)) for name, value in table.items()]
