"""Numeric series: read from a table with a column of time, split by time and by nothing else."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.data._suggest import listed, suggestion
from regard.data.text_files import COMPRESSED, DAMAGED, missing, opened, undecodable

__all__ = ["SPLITS", "Series", "load_series", "read_number", "read_time", "split_series"]

SPLITS = ("train", "validation", "test")
"""In the order of time."""

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Channels that were measured at the same times.

    Attributes:
        values: (times, channels) float64, finite.
        times: (times,) float64, rising: seconds since 1970 of a date, or the number that stood there.
        names: of the channels.
        name: of the file.
        files: that were read.
        lines: line of the file at which each row stands.
        labels: the split that the file gives each row, or None where it names no splits.
    """

    values: _Floats
    times: _Floats
    names: tuple[str, ...]
    name: str
    files: tuple[str, ...]
    lines: tuple[int, ...]
    labels: tuple[str, ...] | None = None

    @property
    def step(self) -> float:
        """The median distance of two rows, in the unit of ``times``."""
        return float(np.median(np.diff(self.times)))

    @property
    def num_irregular(self) -> int:
        """Number of rows whose distance to the row before is not ``step``: gaps, or a change of pace."""
        return int((~np.isclose(np.diff(self.times), self.step, rtol=1e-6)).sum())


def load_series(
    path: str | Path, *, time: str | None = None, columns: Sequence[str] | None = None, split: str | None = None
) -> Series:
    """Read a CSV or TSV file, compressed or not, whose first line names its columns.

    Args:
        path: the file.
        time: column of the times, dates as ISO 8601 writes them or numbers; None for the first.
        columns: the channels; None for all columns but ``time`` and ``split``.
        split: a column that says of each row whether it is of ``train``, ``validation`` or ``test``; None for none.

    Raises:
        DataError: the file is missing or damaged, a column is unknown, a value is no finite number, or a row is not
            later than the one before.
    """
    path = Path(path)
    header, rows = _rows(path)
    time = header[0] if time is None else time
    others = [name for name in header if name not in (time, split)]
    names = list(others if columns is None else columns)
    for name in [time, *names, *([] if split is None else [split])]:
        _check_column(header, name, path)
    if not names or time in names or len(set(names)) != len(names):
        raise DataError(f"A series needs one or more channels beside {time!r}, each once, got {listed(names)}.")
    places = {name: header.index(name) for name in [time, *names]}
    times = np.array([read_time(row[places[time]], time, f"{path} line {line}") for line, row in rows])
    _check_order(times, [row[places[time]] for _, row in rows], [line for line, _ in rows], path)
    values = [[read_number(row[places[name]], name, f"{path} line {line}") for name in names] for line, row in rows]
    return Series(
        values=np.array(values, dtype=np.float64).reshape(len(rows), len(names)),
        times=times,
        names=tuple(names),
        name=path.name,
        files=(str(path),),
        lines=tuple(line for line, _ in rows),
        labels=None if split is None else tuple(_label(row[header.index(split)], path, line) for line, row in rows),
    )


def split_series(
    series: Series,
    *,
    sizes: Sequence[int] | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.2,
) -> dict[str, range]:
    """Return the rows to train on, to choose by and to test on: one stretch after the other, the past first.

    A network that trains on rows between those it is tested on knows their neighbours, and so nearly the rows
    themselves. A series is therefore never split at random, and a split that the file names is refused where it
    is not one of time.

    Args:
        series: its own ``labels`` decide where it has them.
        sizes: rows of train, validation and test, from the first row on; what is left over is not used.
        validation_share: of the rows, without ``sizes``.
        test_share: of the rows, the last ones, without ``sizes``.

    Raises:
        DataError: the file's split is not by time, or leaves one of the three without a row.
        ArgumentError: sizes or shares that do not fit.
    """
    if series.labels is not None:
        return _named_split(series)
    num_rows = len(series.values)
    if sizes is None:
        if min(validation_share, test_share) <= 0 or validation_share + test_share >= 1:
            raise ArgumentError(
                f"The shares must leave rows for all three splits, got {validation_share} for validation and "
                f"{test_share} for test."
            )
        test, validation = round(num_rows * test_share), round(num_rows * validation_share)
        sizes = (num_rows - validation - test, validation, test)
    if len(sizes) != len(SPLITS) or min(sizes) < 1 or sum(sizes) > num_rows:
        raise ArgumentError(
            f"The splits need three sizes of at least 1 that fit into {num_rows} rows, got {tuple(sizes)}."
        )
    bounds = [0, *np.cumsum(sizes).tolist()]
    return {name: range(first, end) for name, (first, end) in zip(SPLITS, pairwise(bounds), strict=True)}


def _named_split(series: Series) -> dict[str, range]:
    assert series.labels is not None, "asked of a series with labels"
    numbers = np.array([SPLITS.index(label) for label in series.labels])
    back = np.flatnonzero(np.diff(numbers) < 0)
    if len(back):
        before, after = int(back[0]), int(back[0]) + 1
        raise DataError(
            f"A series must be split by time, all of train before validation and all of validation before test; got "
            f"{series.labels[after]} at line {series.lines[after]} after {series.labels[before]} at line "
            f"{series.lines[before]} of {series.name}: the model would learn from what comes after the rows that judge "
            "it. Leave the column of splits out, and the series is split by time."
        )
    absent = [name for number, name in enumerate(SPLITS) if number not in numbers]
    if absent:
        raise DataError(f"Each split must have rows, got none of {listed(absent)} in {series.name}.")
    ends = np.searchsorted(numbers, range(len(SPLITS)), side="right").tolist()
    return {name: range(first, end) for name, (first, end) in zip(SPLITS, pairwise([0, *ends]), strict=True)}


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and each row with its line."""
    if not path.is_file():
        raise DataError(missing(path))
    try:
        with opened(path) as file:
            reader = csv.reader(file, delimiter=_delimiter(path), strict=True)
            header = next(reader, None)
            rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError(undecodable(path)) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} must be a whole compressed file, got a damaged one ({error}); copy it again."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path} must be a table, got: {error}; mend the line.") from error
    if header is None or not rows:
        raise DataError(f"{path} must hold a line of column names and rows below it, got none; check the path.")
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path} line {line} must have {len(header)} fields as the first line has, got {len(row)}; mend it."
            )
    return header, rows


def _delimiter(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _DELIMITERS:
        raise DataError(
            f"A series is read from {', '.join(_DELIMITERS)}, or one of these and {', '.join(COMPRESSED)}, "
            f"got {path.name!r}; convert it."
        )
    return _DELIMITERS[suffixes[-1]]


def _check_column(header: Sequence[str], name: str, path: Path) -> None:
    if header.count(name) != 1:
        many = "two columns of this name" if name in header else f"the columns {listed(header)}"
        raise DataError(f"{path} must have one column {name!r}, got {many}; {suggestion(name, header)}")


def read_time(text: str, column: str, where: str) -> float:
    """Return a date as seconds since 1970, or a number as it is.

    Raises:
        DataError: neither; the message names ``column`` and ``where`` the cell is.
    """
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if math.isfinite(number):
            return number
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise DataError(
            f"Column {column!r} must hold times, as 2016-07-01 00:00 or as numbers, got {text!r} at {where};"
            " name the column of the times."
        ) from error
    # Without a zone the clock is taken for one without summer time: distances are then those that stand in the file.
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def read_number(text: str, column: str, where: str) -> float:
    """Return the finite number in a cell.

    Raises:
        DataError: it holds none; the message names ``column`` and ``where`` the cell is.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"Column {column!r} must hold a finite number in each row, got {text!r} at {where}; "
            "fill the gap, or name the columns to use."
        )
    return number


def _label(text: str, path: Path, line: int) -> str:
    if text not in SPLITS:
        raise DataError(f"A split must be one of {', '.join(SPLITS)}, got {text!r} at {path} line {line}.")
    return text


def _check_order(times: _Floats, told: Sequence[str], lines: Sequence[int], path: Path) -> None:
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        row = int(late[0]) + 1
        what = "the same time as" if times[row] == times[row - 1] else "an earlier time than"
        raise DataError(
            f"The rows of a series must be in the order of time, got {told[row]!r} at {path} line {lines[row]}, {what} "
            f"{told[row - 1]!r} before it; sort the rows and keep one of each time."
        )
