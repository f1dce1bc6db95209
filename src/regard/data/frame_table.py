"""Sequences of frames from a long table: a row a frame, with a column that names the sequence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.data._cells import as_label
from regard.data._suggest import listed
from regard.data.frame_sequences import TARGETS, FrameSequences
from regard.data.series import SPLITS, read_number, read_time
from regard.data.table import column_names, read_columns

__all__ = ["load_frame_table"]


def load_frame_table(
    path: str | Path,
    *,
    sequence: str,
    target: str | None = None,
    label: str | None = None,
    time: str | None = None,
    channels: Sequence[str] | None = None,
    group: str | None = None,
    split: str | None = None,
) -> FrameSequences:
    """Read a CSV, TSV or Parquet file in which each row is a frame.

    Args:
        path: the file.
        sequence: column of the sequence that a frame belongs to; its rows need not stand together.
        target: ``"class"`` or ``"number"``, what ``label`` holds; None where the sequences are to be asked.
        label: column of the class or number, the same in all rows of a sequence.
        time: column of the frames' times or numbers, which must rise within a sequence; None for the order of the rows.
        channels: columns of the values; None for all that are not named here otherwise.
        group: column of what must stay on one side of a split, such as who spoke; None for none.
        split: column that says ``train``, ``validation`` or ``test``; None for none.

    Raises:
        DataError: the file is missing or damaged, a column is unknown, a value is no finite number, frames are out of
            order, or a sequence has two targets, groups or splits. The row is named.
        ArgumentError: an unknown target, or one without ``label``.
    """
    if target is not None and (target not in TARGETS or label is None):
        raise ArgumentError(
            f"target must be one of {', '.join(TARGETS)}, with label naming its column, got {target!r} and {label!r}."
        )
    path = Path(path)
    asked = {"sequence": sequence, "label": label, "time": time, "group": group, "split": split}
    # Without a target its column is no channel either, and need not be there.
    roles = {role: name for role, name in asked.items() if name is not None and (role != "label" or target is not None)}
    named = {name for name in asked.values() if name is not None}
    names = [name for name in column_names(path) if name not in named] if channels is None else list(channels)
    if not names or named & set(names) or len(set(names)) != len(names):
        raise DataError(
            f"Frames need one or more channels beside {listed(sorted(named))}, each once, got "
            f"{listed(names) or 'none'}."
        )
    rows, unit = read_columns(path, *roles.values(), *names, file_format=None)
    table = _Table(path, unit, roles, names)
    for number, cells in rows:
        table.add(number, cells)
    return table.sequences(target)


class _Table:
    """Gathers the frames of each sequence, row by row."""

    def __init__(self, path: Path, unit: str, roles: Mapping[str, str], channels: Sequence[str]) -> None:
        self._path, self._unit, self._roles, self._channels = path, unit, roles, list(channels)
        self._frames: dict[str, list[list[float]]] = {}
        self._said: dict[str, dict[str, str]] = {}
        self._last: dict[str, float] = {}
        self._rows: dict[str, int] = {}

    def add(self, number: int, cells: Sequence[Any]) -> None:
        """Take a row."""
        where = f"{self._path} {self._unit} {number}"
        said = dict(zip(self._roles, cells[: len(self._roles)], strict=True))
        said = {
            role: str(cell) if role == "time" else as_label(cell, self._roles[role], where)
            for role, cell in said.items()
        }
        key, time = said.pop("sequence"), said.pop("time", None)
        values = [
            read_number(str(cell), name, where)
            for name, cell in zip(self._channels, cells[len(self._roles) :], strict=True)
        ]
        known = self._said.setdefault(key, said)
        for role, text in said.items():
            if text != known[role]:
                raise DataError(
                    f"All frames of a sequence must have one {role}, got {text!r} for {key!r} at {where} and "
                    f"{known[role]!r} before it; name the sequences apart."
                )
        if time is not None:
            self._check_time(key, read_time(time, self._roles["time"], where), where)
        self._rows.setdefault(key, number)
        self._frames.setdefault(key, []).append(values)

    def _check_time(self, key: str, time: float, where: str) -> None:
        if key in self._last and time <= self._last[key]:
            raise DataError(
                f"The frames of a sequence must be in the order of time, got one of {key!r} at {where} that is not "
                "later than the one before it; sort the rows and keep one of each time."
            )
        self._last[key] = time

    def sequences(self, target: str | None) -> FrameSequences:
        """Return what was gathered."""
        return FrameSequences(
            frames=tuple(np.array(one, dtype=np.float64) for one in self._frames.values()),
            labels=self._all("label") if target == "class" else None,
            numbers=self._numbers() if target == "number" else None,
            channels=tuple(self._channels),
            names=tuple(self._frames),
            rows=tuple(self._rows.values()),
            unit=self._unit,
            name=self._path.name,
            files=(str(self._path),),
            groups=self._all("group") if "group" in self._roles else None,
            splits=self._splits() if "split" in self._roles else None,
        )

    def _all(self, role: str) -> tuple[str, ...]:
        return tuple(said[role] for said in self._said.values())

    def _where(self, key: str) -> str:
        return f"{self._path} {self._unit} {self._rows[key]}"

    def _numbers(self) -> npt.NDArray[np.float64]:
        column = self._roles["label"]
        return np.array([read_number(said["label"], column, self._where(key)) for key, said in self._said.items()])

    def _splits(self) -> tuple[str, ...]:
        for key, said in self._said.items():
            if said["split"] not in SPLITS:
                raise DataError(
                    f"A split must be one of {', '.join(SPLITS)}, got {said['split']!r} at {self._where(key)}."
                )
        return self._all("split")
