"""A table of curves as a CSV file: one row a step, one column a curve, open to read at any time."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import duckdb

from regard._errors import RecordError
from regard.records.atomic import atomic_path

__all__ = ["STEP_COLUMN", "CurveFile"]

STEP_COLUMN = "t"

_MOST_LATE = 64  # steps that may wait for the file to be written anew, in a file of up to four times as many rows


class CurveFile:
    """Curves over steps, in order of the steps, appended row by row.

    An ordinary step is one write at the end of the file, so that a kill leaves whole rows and at most one that is torn,
    which is cut off when the file is opened again. The file is written anew, beside itself and then renamed, where that
    cannot do: a curve appears that had no column, or values come for a step that is in the file. Such late values wait
    until ``settle`` or until they are many, since each time costs as much as the file is long.

    A file that exists is continued: its rows from the first step on that comes are forgotten, as they come again.

    Args:
        path: the file; its folder exists.

    Raises:
        RecordError: the file that is there is no such table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            with path.open("rb") as file:
                _columns_of(file.readline(), path)
        self._columns: dict[str, int] = {}
        self._waiting: dict[int, dict[str, float]] = {}
        self._last_step = 0
        self._num_rows = 0
        self._is_open = False

    @property
    def curves(self) -> list[str]:
        """Names of the curves that are in the file, in order."""
        return list(self._columns)

    def append(self, step: int, curves: Mapping[str, float]) -> None:
        """Add the values of one step in place of what was there; NaN and infinity leave a cell empty.

        Raises:
            RecordError: a row of the file that is there does not begin with a step.
            OSError: it cannot be written; the values are kept, and written by the next call that can.
        """
        self._waiting.setdefault(step, {}).update(curves)
        if not self._is_open:
            self._open(step)
            self._is_open = True
        ahead = sorted(other for other in self._waiting if other > self._last_step)
        is_late = len(self._waiting) - len(ahead) > max(_MOST_LATE, self._num_rows // 4)
        if is_late or any(values.keys() - self._columns.keys() for values in self._waiting.values()):
            self._rewrite()
            return
        for other in ahead:
            self._append(other, self._waiting[other])
            del self._waiting[other]

    def settle(self) -> None:
        """Write what waits.

        Raises:
            OSError: it cannot be written.
        """
        if self._waiting:
            self._rewrite()

    def write_parquet(self, target: Path) -> None:
        """Write the same table as Parquet: the step as an integer, each curve as float32, null where a cell is empty.

        Raises:
            OSError: it cannot be written.
        """
        self.settle()
        if not self._num_rows:
            return
        names = [STEP_COLUMN, *self._columns]
        kinds = ", ".join(f"'c{at}': '{'FLOAT' if at else 'INTEGER'}'" for at in range(len(names)))
        chosen = ", ".join(f"c{at} AS {_quoted(name)}" for at, name in enumerate(names))
        widest = max(1 << 20, 2 * _longest_line(self._path))
        read = (
            f"read_csv({_text(self._path)}, auto_detect = false, delim = ',', quote = '\"', header = true, "
            f"max_line_size = {widest}, columns = {{{kinds}}})"
        )
        with atomic_path(target) as temporary, duckdb.connect() as connection:
            copied = f"COPY (SELECT {chosen} FROM {read}) TO {_text(temporary)}"
            connection.execute(f"{copied} (FORMAT parquet, COMPRESSION zstd)")

    def _open(self, first_step: int) -> None:
        """Take over the file that is there, up to the step before ``first_step``."""
        if not self._path.exists():
            return
        self._last_step = self._num_rows = 0
        with self._path.open("rb") as file:
            self._columns = _columns_of(file.readline(), self._path)
            is_torn, again = False, False
            for line in file:
                is_torn = not line.endswith(b"\n")
                step = 0 if is_torn else _step_of(line, self._path)
                again = again or step >= first_step
                if not is_torn and not again:
                    self._last_step = step
                    self._num_rows += 1
        if again and not self._num_rows:
            self._columns = {}  # nothing stays, so neither do the names of curves that may not come again
        if is_torn or again:
            self._rewrite(up_to=first_step - 1)

    def _append(self, step: int, values: Mapping[str, float]) -> None:
        left = memoryview(self._row(step, values))
        with self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)  # half a row, on a disk that is full, would spoil the next one
                raise
        self._last_step = step
        self._num_rows += 1

    def _rewrite(self, up_to: int | None = None) -> None:
        """Write the file anew with what waits, with its columns, and with rows up to this step only."""
        width = len(self._columns)
        names = {name: None for values in self._waiting.values() for name in values if name not in self._columns}
        columns = {**self._columns, **{name: width + at for at, name in enumerate(names)}}
        before, self._columns = self._columns, columns
        num_rows, last_step = 0, 0
        try:
            with atomic_path(self._path) as temporary, temporary.open("wb") as file:
                file.write(_header(columns))
                for step, row in self._merged(width, up_to):
                    file.write(row)
                    num_rows, last_step = num_rows + 1, step
        except OSError:
            self._columns = before
            raise
        self._num_rows, self._last_step = num_rows, last_step
        self._waiting.clear()

    def _merged(self, width: int, up_to: int | None) -> Iterator[tuple[int, bytes]]:
        """Yield (step, row) of the file, whose rows have ``width`` curves, and of what waits, in order."""
        waiting = sorted(self._waiting)
        for step, line in self._rows(up_to):
            while waiting and waiting[0] < step:
                missing = waiting.pop(0)
                yield missing, self._row(missing, self._waiting[missing])
            if waiting and waiting[0] == step:
                waiting.pop(0)
                cells = line.split(b",")[1:] + [b""] * (len(self._columns) - width)
                for name, value in self._waiting[step].items():
                    cells[self._columns[name]] = _cell(value)
                line = b",".join((b"%d" % step, *cells))
            else:
                line += b"," * (len(self._columns) - width)
            yield step, line + b"\n"
        for step in waiting:
            yield step, self._row(step, self._waiting[step])

    def _rows(self, up_to: int | None) -> Iterator[tuple[int, bytes]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.readline()
            for line in file:
                if not line.endswith(b"\n"):
                    return
                step = _step_of(line, self._path)
                if up_to is not None and step > up_to:
                    return
                yield step, line.rstrip(b"\r\n")

    def _row(self, step: int, values: Mapping[str, float]) -> bytes:
        cells = [b""] * len(self._columns)
        for name, value in values.items():
            cells[self._columns[name]] = _cell(value)
        return b",".join((b"%d" % step, *cells)) + b"\n"


def _cell(value: float) -> bytes:
    # PlotJuggler takes a column whose first value is "inf" for text, and draws nothing of it.
    # Nine digits are every digit of a float32, which is what statistics are computed in at best.
    return f"{value:.9g}".encode() if math.isfinite(value) else b""


def _header(names: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([STEP_COLUMN, *names])
    return line.getvalue().encode()


def _columns_of(header: bytes, path: Path) -> dict[str, int]:
    names = next(csv.reader([header.decode(errors="replace")]), [])
    if names[:1] != [STEP_COLUMN] or not header.endswith(b"\n"):
        raise _no_table(f"whose first column is {STEP_COLUMN}", header, path)
    return {name: at for at, name in enumerate(names[1:])}


def _step_of(line: bytes, path: Path) -> int:
    step = line.split(b",", 1)[0].strip()
    if not step.isdigit():
        raise _no_table("whose rows begin with a step", line, path)
    return int(step)


def _no_table(wanted: str, line: bytes, path: Path) -> RecordError:
    begins = line[:40].decode(errors="replace").strip()
    return RecordError(
        f"Curves can be added only to a table {wanted}, got {begins!r} in {path}; "
        "move that file away or take another folder."
    )


def _longest_line(path: Path) -> int:
    with path.open("rb") as file:
        return max(len(line) for line in file)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
