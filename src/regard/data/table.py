"""Labelled texts from one file: CSV, TSV, JSON lines or Parquet, plain or compressed.

Text formats are read with the standard library, which keeps exact line numbers for messages; Parquet with DuckDB.
"""

import csv
import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import duckdb

from regard._errors import ArgumentError, DataError
from regard.data._cells import as_label, as_text
from regard.data._suggest import listed, suggestion
from regard.data.documents import Documents
from regard.data.text_files import COMPRESSED, DAMAGED, missing, opened, undecodable

__all__ = ["Row", "column_names", "load_table", "read_columns"]

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_FIELD_LIMIT = 2**31 - 1  # characters; the largest that the csv module takes on every platform

Row = tuple[int, tuple[Any, ...]]
"""Number of the row in its file, and the values of the columns that were asked for."""


def load_table(
    path: str | Path, *, text: str, label: str, file_format: str | None = None, quotes: bool | None = None
) -> Documents:
    """Read labelled texts from one file.

    The first line of CSV and TSV names the columns; each line of JSON lines is an object. Text files must be UTF-8.
    Nothing is changed or left out: texts and labels stay as they are in the file, and a text that is null counts as
    an empty one.

    Args:
        path: the file; ``.gz``, ``.bz2`` and ``.xz`` are read through.
        text: column of the documents.
        label: column of the class names; numbers and booleans become their text.
        file_format: ``"csv"``, ``"tsv"``, ``"jsonl"`` or ``"parquet"``; by default the suffix says.
        quotes: whether a double quote at the start of a CSV or TSV field opens a quoted field. By default it does, and
            a TSV field that then runs over a tab and a line end is refused, because it more likely is a plain quote.

    Returns:
        The documents, with the line (or row of Parquet) on which each begins.

    Raises:
        DataError: the file is missing, damaged or not UTF-8, a column is unknown, a line is broken, a row has no label.
        ArgumentError: ``file_format`` is not one of the four.
    """
    path = Path(path)
    rows, unit = read_columns(path, text, label, file_format=file_format, quotes=quotes)
    return Documents(
        texts=[as_text(values[0], text, f"{path} {unit} {number}") for number, values in rows],
        labels=[as_label(values[1], label, f"{path} {unit} {number}") for number, values in rows],
        name=path.name,
        rows=[number for number, _ in rows],
        unit=unit,
        files=(str(path),),
    )


def read_columns(
    path: Path, *columns: str, file_format: str | None, quotes: bool | None = None, header: bool = True
) -> tuple[list[Row], str]:
    """Read columns of a file.

    Args:
        path: the file.
        *columns: their names.
        file_format: as for ``load_table``.
        quotes: as for ``load_table``.
        header: whether the first line of CSV or TSV names the columns; without it they are called "1", "2", ….

    Returns:
        For each row its number and its values, as they are in the file; and what the number counts, ``"line"`` or
        ``"row"``.

    Raises:
        DataError: as for ``load_table``, save that a value may be anything.
        ArgumentError: ``file_format`` is not one of the four.
    """
    kind = _format(path, file_format)
    if not path.is_file():
        raise DataError(missing(path))
    try:
        if kind == "parquet":
            rows = list(_parquet_rows(path, columns))
        elif kind == "jsonl":
            rows = list(_json_rows(path, columns))
        else:
            delimiter = "," if kind == "csv" else "\t"
            rows = list(_csv_rows(path, columns, delimiter=delimiter, quotes=quotes, has_header=header))
    except UnicodeDecodeError as error:
        raise DataError(undecodable(path)) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} must be a whole compressed file, got a damaged one ({error}); copy it again."
        ) from error
    if not rows:
        raise DataError(f"A data set needs at least one row, got none in {path}; check that it is the right file.")
    return rows, "row" if kind == "parquet" else "line"


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a CSV, TSV or Parquet file, in its order.

    Raises:
        DataError: the file is missing, damaged or empty, or of another format.
    """
    kind = _format(path, None)
    if not path.is_file():
        raise DataError(missing(path))
    if kind == "jsonl":
        raise DataError(f"Columns stand in CSV, TSV and Parquet files, got {path}; convert it.")
    if kind == "parquet":
        with _parquet(path) as (_, header):
            return header
    try:
        with opened(path) as file, _long_fields():
            names = next(csv.reader(file, delimiter="," if kind == "csv" else "\t"), None)
    except UnicodeDecodeError as error:
        raise DataError(undecodable(path)) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} must be a whole compressed file, got a damaged one ({error}); copy it again."
        ) from error
    if not names:
        raise DataError(f"{path} must begin with a line of column names, got none; check the path.")
    return names


def _format(path: Path, chosen: str | None) -> str:
    formats = list(dict.fromkeys(_FORMATS.values()))
    if chosen is not None:
        if chosen not in formats:
            raise ArgumentError(
                f"file_format must be one of {listed(formats)}, got {chosen!r}; {suggestion(chosen, formats)}"
            )
        return chosen
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    if not suffixes or suffixes[-1] not in _FORMATS:
        raise DataError(
            f"A data file must end in {', '.join(_FORMATS)}, or one of these and {', '.join(COMPRESSED)}, "
            f"got {path.name!r}; convert it, or say which it is with file_format=."
        )
    return _FORMATS[suffixes[-1]]


@contextmanager
def _long_fields() -> Iterator[None]:
    previous = csv.field_size_limit(_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


def _csv_rows(
    path: Path, columns: Sequence[str], *, delimiter: str, quotes: bool | None, has_header: bool
) -> Iterator[Row]:
    quoting: Literal[0, 3] = csv.QUOTE_NONE if quotes is False else csv.QUOTE_MINIMAL
    suspicious = delimiter == "\t" and quotes is None
    with opened(path) as file, _long_fields():
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
        number = 1
        try:
            first = next(reader, None)
            if first is None:
                raise DataError(f"{path} must begin with a line of column names, got an empty file; check the path.")
            header = first if has_header else [str(place + 1) for place in range(len(first))]
            places = [_column(header, name, path) for name in columns]
            if not has_header:
                yield number, tuple(first[place] for place in places)
            number = reader.line_num + 1
            for row in reader:
                if row:
                    _check_row(row, header, path, number, suspicious=suspicious)
                    yield number, tuple(row[place] for place in places)
                number = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path} line {number} must be a whole row, got: {error}; mend the line, "
                "or say quotes=False if its double quotes are plain characters."
            ) from error


def _check_row(row: list[str], header: list[str], path: Path, number: int, *, suspicious: bool) -> None:
    if suspicious and any("\t" in field and "\n" in field for field in row):
        raise DataError(
            f"{path} line {number} begins a double quote that runs over tabs and line ends; "
            "say quotes=False if quotes are plain characters in this file, quotes=True if the field is meant."
        )
    if len(row) != len(header):
        raise DataError(
            f"{path} line {number} must have {len(header)} fields as the first line has, got {len(row)}; "
            "mend the line, for example by quoting a field that holds the delimiter."
        )


def _column(header: list[str], name: str, path: Path) -> int:
    found = header.count(name)
    if found == 0:
        raise DataError(
            f"{path} must have a column {name!r}, got the columns {listed(header)}; {suggestion(name, header)}"
        )
    if found > 1:
        raise DataError(f"{path} must have one column {name!r}, got {found}; rename the others.")
    return header.index(name)


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path} line {number} must be a JSON object, got: {error}; mend the line.") from error
            if not isinstance(row, dict):
                raise DataError(f"{path} line {number} must be a JSON object, got {type(row).__name__}; mend the line.")
            for name in columns:
                if name not in row:
                    _absent(path, number, name, list(row))
            yield number, tuple(row[name] for name in columns)


def _absent(path: Path, number: int, name: str, keys: list[str]) -> None:
    raise DataError(
        f"{path} line {number} must have the key {name!r}, got the keys {listed(keys)}; {suggestion(name, keys)}"
    )


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    with _parquet(path) as (connection, header):
        for name in columns:
            _column(header, name, path)
        chosen = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        found = connection.execute(f"SELECT {chosen} FROM read_parquet(?)", [_source(path)]).fetchall()
    yield from enumerate(found, start=1)


@contextmanager
def _parquet(path: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[str]]]:
    """Yield a connection that reads the file, and the names of its columns."""
    try:
        with duckdb.connect() as connection:
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [_source(path)]).fetchall()
            yield connection, [str(column[0]) for column in described]
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"{path} must be a Parquet file, got one that cannot be read ({first}); write it again."
        ) from error


def _source(path: Path) -> str:
    """Return the name of the file for DuckDB, which expands wildcards; a name that holds one is meant as it stands."""
    return glob.escape(str(path))
