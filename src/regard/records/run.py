"""One run, one folder: open it, append to it, read it."""

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from regard._errors import RecordError
from regard.records.atomic import write_bytes, write_json
from regard.records.checks import Checks
from regard.records.heads import HeadTable
from regard.records.reading import first_problem, read_json
from regard.records.schema import Finding, ReadinessItem, RunInfo, Status

__all__ = ["SCHEMA_VERSION", "Run"]

_Item = TypeVar("_Item", bound=BaseModel)

SCHEMA_VERSION = 1


class Run:
    """A run folder, read and written without torch.

    Example:
        >>> run = Run.create(tmp_path / "first", recipe="text-classifier")
        >>> run.event("step", step=1, loss=0.7)
        >>> [event["loss"] for event in run.events("step")]
        [0.7]
    """

    def __init__(self, folder: Path, info: RunInfo) -> None:
        self.folder = folder
        self.info = info
        self.heads = HeadTable(folder)

    @classmethod
    def create(cls, folder: Path | str, *, recipe: str, **fields: Any) -> "Run":
        """Start a run in a new or empty ``folder``.

        Args:
            folder: where the run's files go; made if absent.
            recipe: name of what runs.
            **fields: further fields of ``RunInfo``.

        Raises:
            RecordError: ``folder`` already holds a run.
        """
        folder = Path(folder)
        if (folder / "run.json").exists():
            raise RecordError(f"A new run needs an empty folder, got {folder} with a run; open it or name another.")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        info = RunInfo(schema_version=SCHEMA_VERSION, name=folder.name, recipe=recipe, created=created, **fields)
        run = cls(folder, info)
        run.update()
        return run

    @classmethod
    def open(cls, folder: Path | str) -> "Run":
        """Open the run in ``folder``, finished or not.

        Raises:
            RecordError: there is no run, or its ``run.json`` is damaged or of another schema version.
        """
        folder = Path(folder)
        content = read_json(folder / "run.json", "A run folder with run.json is needed")
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise RecordError(
                f"{folder / 'run.json'} must have schema version {SCHEMA_VERSION}, got {version}; "
                "open it with the version of regard that wrote it or run again."
            )
        try:
            return cls(folder, RunInfo.model_validate(content))
        except ValidationError as error:
            raise RecordError(f"{folder / 'run.json'} does not hold a run: {first_problem(error)}") from error

    def update(self, **fields: Any) -> None:
        """Change fields of ``run.json`` and write it."""
        self.info = RunInfo.model_validate({**self.info.model_dump(), **fields})
        write_json(self.folder / "run.json", self.info.model_dump(mode="json"))

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.info.status is Status.FINISHED

    # events.jsonl

    def event(self, event: str, *, step: int | None = None, level: str = "info", **fields: Any) -> None:
        """Append one event; each is a line of JSON that is on its way to disk when this returns."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event}
        if step is not None:
            line["step"] = step  # type: ignore[assignment]
        content = orjson.dumps({**line, **fields}, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        handle = os.open(self.folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)

    def events(self, *names: str) -> Iterator[dict[str, Any]]:
        """Iterate over the events called one of ``names``, or all; a last line torn by a kill is left out."""
        path = self.folder / "events.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    event = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise RecordError(f"{path} line {number} must be a JSON object, got {line[:60]!r}.") from error
                if not names or event.get("event") in names:
                    yield event

    def truncate(self, last_step: int) -> None:
        """Forget events and head rows after ``last_step``, so that a resumed run can write them again."""
        kept = [event for event in self.events() if event.get("step") is None or event["step"] <= last_step]
        write_bytes(self.folder / "events.jsonl", b"".join(orjson.dumps(event) + b"\n" for event in kept))
        self.heads.truncate(last_step)

    # one JSON file each

    def write(self, name: str, content: Any) -> Path:
        """Write ``<name>.json`` (``metrics``, ``audit``, …) atomically and return its path."""
        path = self.folder / f"{name}.json"
        write_json(path, content)
        return path

    def read(self, name: str) -> Any:
        """Read ``<name>.json``.

        Raises:
            RecordError: it is absent or damaged.
        """
        return read_json(self.folder / f"{name}.json", f"This step needs {name}.json of a run")

    def has(self, name: str) -> bool:
        """Whether ``<name>.json`` was written."""
        return (self.folder / f"{name}.json").exists()

    def write_findings(self, findings: Iterable[Finding]) -> Path:
        """Write what ``diagnose`` found."""
        return self.write("findings", [finding.model_dump(mode="json") for finding in findings])

    def findings(self) -> list[Finding]:
        """Read what ``diagnose`` found."""
        return self._read_list("findings", Finding)

    def write_readiness(self, items: Iterable[ReadinessItem]) -> Path:
        """Write the answers of the readiness gate."""
        return self.write("readiness", [item.model_dump(mode="json") for item in items])

    def readiness(self) -> list[ReadinessItem]:
        """Read the answers of the readiness gate."""
        return self._read_list("readiness", ReadinessItem)

    def write_checks(self, checks: Checks) -> Path:
        """Write what ``check`` proved and found."""
        return self.write("checks", checks.model_dump(mode="json"))

    def checks(self) -> Checks:
        """Read what ``check`` proved and found.

        Raises:
            RecordError: it is absent, damaged or of another schema version.
        """
        return Checks.load(self.folder / "checks.json")

    def _read_list(self, name: str, kind: type[_Item]) -> list[_Item]:
        try:
            return [kind.model_validate(item) for item in self.read(name)]
        except (ValidationError, TypeError) as error:
            reason = first_problem(error) if isinstance(error, ValidationError) else "it is not a list"
            raise RecordError(f"{self.folder / name}.json must hold records of regard, but {reason}.") from error
