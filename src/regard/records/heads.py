"""``heads.parquet``: step × layer × head × statistic, appended while a run goes on and read with DuckDB.

While a run is going the rows live in ``heads/part-*.parquet``, each written whole; ``finish`` merges them into
``heads.parquet``. Readers take whichever is there, so an interrupted run opens.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from regard._errors import RecordError
from regard.records.atomic import atomic_path

__all__ = ["HEAD_COLUMNS", "HeadTable"]

HEAD_COLUMNS: dict[str, str] = {
    "step": "INTEGER",
    "layer": "VARCHAR",
    "head": "SMALLINT",
    "statistic": "VARCHAR",
    "mean": "FLOAT",
    "se": "FLOAT",
    "minimum": "FLOAT",
    "q10": "FLOAT",
    "q50": "FLOAT",
    "q90": "FLOAT",
    "maximum": "FLOAT",
    "num_rows": "INTEGER",
    "num_empty_rows": "INTEGER",
    "sequence_std": "FLOAT",
    "sequence_minimum": "FLOAT",
    "sequence_maximum": "FLOAT",
    "sequence_share": "FLOAT",
}
"""Columns in order. ``mean`` is over the ``num_rows`` query rows of a step that see at least one key; ``se`` is its
standard error where rows were sampled and null where all were seen; quantiles are null where they were not computed.
``sequence_*`` say how the means of the step's sequences lie: their standard deviation and extremes, and the share of
the rows' variance that is between sequences; null below two sequences (extremes below one) and in older runs."""

_OPTIONAL = frozenset(name for name in HEAD_COLUMNS if name.startswith("sequence_"))

_CODEC = "(FORMAT parquet, COMPRESSION zstd)"


class HeadTable:
    """The per-head statistics of one run folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "heads.parquet"
        self._parts = folder / "heads"

    def append(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Write the rows of one or more steps as a part, atomically.

        Args:
            columns: one array of equal length per name in ``HEAD_COLUMNS``; NaN is stored as null. Those named
                ``sequence_*`` may be left out and are null then.

        Raises:
            RecordError: a column is missing, unknown or of another length.
        """
        rows = _validated(columns)
        if not len(rows["step"]):
            return
        first, last = int(rows["step"].min()), int(rows["step"].max())
        number = len(list(self._parts.glob("part-*.parquet")))
        part = self._parts / f"part-{number:06d}-{first:09d}-{last:09d}.parquet"
        cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in HEAD_COLUMNS.items())
        with atomic_path(part) as temporary, duckdb.connect() as connection:
            connection.register("part_rows", rows)
            connection.execute(f"COPY (SELECT {cast} FROM part_rows) TO '{_sql(temporary)}' {_CODEC}")

    def truncate(self, last_step: int) -> None:
        """Forget rows after ``last_step``; a resumed run writes them again, also one that was finished before."""
        self._reopen()
        for part in sorted(self._parts.glob("part-*.parquet")):
            _, _, first, last = part.stem.split("-")
            if int(first) > last_step:
                part.unlink()
            elif int(last) > last_step:
                with atomic_path(part) as temporary, duckdb.connect() as connection:
                    source = f"SELECT * FROM '{_sql(part)}' WHERE step <= {int(last_step)}"
                    connection.execute(f"COPY ({source}) TO '{_sql(temporary)}' {_CODEC}")

    def finish(self) -> None:
        """Merge the parts into ``heads.parquet``."""
        if not any(self._parts.glob("part-*.parquet")):
            return
        with atomic_path(self._file) as temporary, duckdb.connect() as connection:
            order = "ORDER BY step, layer, head, statistic"
            connection.execute(f"COPY (SELECT * FROM {self._source()} {order}) TO '{_sql(temporary)}' {_CODEC}")
        shutil.rmtree(self._parts)

    def _reopen(self) -> None:
        """Make a part of what ``finish`` merged, since parts are what a run adds to."""
        if not self._file.exists():
            return
        found = self.query("SELECT min(step) AS first, max(step) AS last FROM heads")
        first, last = int(found["first"][0]), int(found["last"][0])
        if self._parts.exists():
            shutil.rmtree(self._parts)  # a kill within finish left them; they are merged
        self._parts.mkdir()
        self._file.rename(self._parts / f"part-{0:06d}-{first:09d}-{last:09d}.parquet")

    @property
    def exists(self) -> bool:
        """Whether any row was recorded."""
        return self._file.exists() or any(self._parts.glob("part-*.parquet"))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, npt.NDArray[Any]]:
        """Answer ``sql`` about the table ``heads`` as one array per column; null becomes NaN in float columns.

        Example:
            ``run.heads.query("SELECT layer, avg(mean) AS m FROM heads WHERE statistic = 'entropy' GROUP BY layer")``

        Raises:
            RecordError: the run has no head statistics, or the file is damaged, or the query is not valid.
        """
        if not self.exists:
            folder = self._file.parent
            raise RecordError(f"A run with head statistics is needed, got none in {folder}; record with watch.")
        try:
            with duckdb.connect() as connection:
                connection.execute(f"CREATE VIEW heads AS SELECT * FROM {self._source()}")
                found = connection.execute(sql, list(parameters)).fetchnumpy()
        except duckdb.Error as error:
            raise RecordError(f"The head statistics in {self._file.parent} could not be queried: {error}") from error
        return {name: _filled(column) for name, column in found.items()}

    def _source(self) -> str:
        where = self._file if self._file.exists() else self._parts / "part-*.parquet"
        # Older files lack columns that came later: these are null there.
        typed = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in HEAD_COLUMNS.items())
        read = f"SELECT * FROM read_parquet('{_sql(where)}', union_by_name = true)"
        return f"(SELECT {typed} WHERE false UNION ALL BY NAME {read})"


def _validated(columns: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    left_out = _OPTIONAL - set(columns)
    difference = sorted(set(columns) ^ (set(HEAD_COLUMNS) - left_out))
    if difference:
        raise RecordError(f"Head rows must have exactly the columns of HEAD_COLUMNS, got a difference in {difference}.")
    missing = np.full(len(np.asarray(columns["step"])), np.nan, dtype=np.float32)
    rows = {name: missing if name in left_out else np.asarray(columns[name]) for name in HEAD_COLUMNS}
    for name in ("layer", "statistic"):
        rows[name] = rows[name].astype(object)
    lengths = {name: len(column) for name, column in rows.items()}
    if len(set(lengths.values())) != 1:
        raise RecordError(f"Head columns must have one length, got {lengths}.")
    return rows


def _filled(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(column, np.ma.MaskedArray):
        return column
    if np.issubdtype(column.dtype, np.floating):
        filled: npt.NDArray[Any] = column.filled(np.nan)
        return filled
    missing = np.ma.getmaskarray(column)
    values = np.asarray(column.data, dtype=object if missing.any() else None)
    if missing.any():
        values[missing] = None
    return values


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")
