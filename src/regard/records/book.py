"""One translated book, one folder: ``book.json``, ``segments.jsonl`` and ``alignments.parquet``, grown block by block.

A block is on disk or it is not: its alignments are written first, as a part of their own, then its segments are put
behind the earlier ones. What a kill leaves beyond the last whole block is thrown away when the folder is opened to go
on, so that an interrupted book ends in the same bytes as one that was not.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from regard._errors import RecordError
from regard.records.atomic import atomic_path, write_json
from regard.records.reading import first_problem, read_json

__all__ = ["ALIGNMENT_COLUMNS", "Book", "BookSegment"]

_SCHEMA_VERSION = 1

ALIGNMENT_COLUMNS: dict[str, str] = {
    "segment": "INTEGER",
    "token": "SMALLINT",
    "start": "INTEGER",
    "stop": "INTEGER",
    "sources": "SMALLINT[]",
    "backs": "TINYINT[]",
    "starts": "INTEGER[]",
    "stops": "INTEGER[]",
    "weights": "FLOAT[]",
    "covered": "FLOAT",
    "own": "FLOAT",
}
"""Columns in order; a row for each token that was written, save the one that ends a text.

``start`` and ``stop``: characters of the translation. ``sources``: the places, in what the encoder read, that the token
looks at most, the heaviest first; ``backs``: the segment that each is in, 0 its own and n the n-th before it;
``starts`` and ``stops``: its characters there, an empty span for the token that ends a text. ``weights``: the mean over
the heads. ``covered``: their sum; ``own``: the weight on all of the segment's own text.
"""

_CODEC = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 4096)"
_FIXED = ("source_sha256", "model_sha256", "settings")


class BookSegment(BaseModel):
    """One segment of a book and what became of it: a line of ``segments.jsonl``.

    Attributes:
        id: its number in the book, from 0.
        document: name of the document that it stands in.
        row: line (row of Parquet) of a table, paragraph of a plain text, from 1.
        label: how a person finds it: "Ruth 1:1", "line 12".
        piece: which piece of its sentence or cell it is, from 1; those too long for the model are read in pieces.
        pieces: how many there are.
        start: first character, of the cell or of the plain text; segments leave none out between them.
        end: behind its last character.
        source: what the model read, runs of white space as one space.
        translation: what it wrote.
        ended: whether the translation came to its end; without it the limit of its length cut it.
        reference: the translation of the whole row by a person, on its first piece, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    document: str
    row: int
    label: str
    piece: int
    pieces: int
    start: int
    end: int
    source: str
    translation: str
    ended: bool
    reference: str | None = None


class Book:
    """The folder of one translated book, read and written without torch.

    Args:
        folder: where its files are.
        info: content of ``book.json``.
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info
        self._segments = folder / "segments.jsonl"
        self._alignments = folder / "alignments.parquet"
        self._parts = folder / "alignments"

    @classmethod
    def open(cls, folder: Path | str) -> "Book":
        """Open the book in ``folder``, finished or not, to read it.

        Raises:
            RecordError: there is none, or ``book.json`` is damaged or of another schema version.
        """
        folder = Path(folder)
        info = read_json(folder / "book.json", "A folder of a translated book with book.json is needed")
        if not isinstance(info, dict) or info.get("schema_version") != _SCHEMA_VERSION:
            found = info.get("schema_version") if isinstance(info, dict) else None
            raise RecordError(
                f"{folder / 'book.json'} must have schema version {_SCHEMA_VERSION}, got {found}; translate it again."
            )
        return cls(folder, info)

    @classmethod
    def begin(cls, folder: Path | str, info: Mapping[str, Any]) -> "Book":
        """Begin a book in a new folder, or go on with the one that is there.

        Args:
            folder: made if absent.
            info: ``source_sha256``, ``model_sha256`` and ``settings``, which must be those of the book that is there,
                and whatever else a reader should know; ``settings`` holds the ``block`` length.

        Raises:
            RecordError: the book that is there is of another source, model or settings, or its files are damaged.
        """
        folder = Path(folder)
        if (folder / "book.json").exists():
            book = cls.open(folder)
            _refuse_another(book, info)
        else:
            book = cls(folder, {"schema_version": _SCHEMA_VERSION, "status": "running", **info})
            book.update()
        if not book.finished:
            book._forget_beyond_whole_blocks()
        return book

    def update(self, **fields: Any) -> None:
        """Change fields of ``book.json`` and write it."""
        self.info = {**self.info, **fields}
        write_json(self.folder / "book.json", self.info)

    @property
    def finished(self) -> bool:
        """Whether the whole book is translated."""
        return bool(self.info["status"] == "finished")

    def append(self, segments: Sequence[BookSegment], alignments: Mapping[str, npt.ArrayLike]) -> None:
        """Write one block: its alignments, then its segments.

        Args:
            segments: as many as a block has; the last block of a book may have fewer.
            alignments: one array or list of equal length per name in ``ALIGNMENT_COLUMNS``.
        """
        number = segments[0].id // int(self.info["settings"]["block"])
        columns = {name: _array(alignments[name], kind) for name, kind in ALIGNMENT_COLUMNS.items()}
        cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in ALIGNMENT_COLUMNS.items())
        with atomic_path(self._parts / f"part-{number:06d}.parquet") as temporary, _connection() as connection:
            connection.register("rows", columns)
            connection.execute(f"COPY (SELECT {cast} FROM rows) TO '{_sql(temporary)}' {_CODEC}")
        lines = b"".join(orjson.dumps(one.model_dump(), option=orjson.OPT_APPEND_NEWLINE) for one in segments)
        with self._segments.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, **fields: Any) -> None:
        """Make one file of the parts, in which few rows need be read for a page, and call the book finished."""
        if self._parts.exists():
            with atomic_path(self._alignments) as temporary, _connection() as connection:
                connection.execute(f"COPY (SELECT * FROM {self._source(parts=True)}) TO '{_sql(temporary)}' {_CODEC}")
        self.update(status="finished", **fields)
        shutil.rmtree(self._parts, ignore_errors=True)

    def segments(self, first: int = 0, last: int | None = None) -> Iterator[BookSegment]:
        """Iterate over the segments from ``first`` to before ``last``, or to the end; one is held at a time.

        Raises:
            RecordError: the file is damaged.
        """
        if not self._segments.exists():
            return
        with self._segments.open("rb") as file:
            for number, line in enumerate(file):
                if number < first:
                    continue
                if last is not None and number >= last:
                    return
                try:
                    segment = BookSegment.model_validate_json(line)
                except ValidationError as error:
                    if not line.endswith(b"\n"):
                        return  # torn by a kill
                    raise RecordError(
                        f"{self._segments} line {number + 1} must hold a segment: {first_problem(error)}; "
                        "the file is damaged."
                    ) from error
                yield segment

    def count(self) -> int:
        """Return how many segments are translated."""
        if not self._segments.exists():
            return 0
        with self._segments.open("rb") as file:
            return sum(line.endswith(b"\n") for line in file)

    def alignments(self, first: int = 0, last: int | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the alignments of the segments from ``first`` to before ``last``: an array for each column.

        Raises:
            RecordError: there are none, or the file is damaged.
        """
        self._need_alignments()
        until = 2**31 - 1 if last is None else last
        wanted = f"WHERE segment >= {int(first)} AND segment < {int(until)} ORDER BY segment, token"
        try:
            with _connection() as connection:
                found = connection.execute(f"SELECT * FROM {self._source()} {wanted}").fetchnumpy()
        except duckdb.Error as error:
            raise RecordError(f"The alignments in {self.folder} could not be read: {error}") from error
        return {name: np.asarray(found[name]) for name in ALIGNMENT_COLUMNS}

    def mean_alignment(self) -> dict[str, float | None]:
        """Return the means of ``covered`` and ``own`` over all tokens; None where none was written.

        Raises:
            RecordError: as ``alignments``.
        """
        self._need_alignments()
        with _connection() as connection:
            found = connection.execute(f"SELECT avg(covered), avg(own) FROM {self._source()}").fetchone()
        assert found is not None, "an aggregate has a row"
        return {"covered": found[0], "own": found[1]}

    def _need_alignments(self) -> None:
        if not self._alignments.exists() and not any(self._parts.glob("part-*.parquet")):
            raise RecordError(f"Alignments of a translated book are needed, got none in {self.folder}; translate it.")

    def _source(self, *, parts: bool = False) -> str:
        if self._alignments.exists() and not parts:
            return f"read_parquet('{_sql(self._alignments)}')"
        files = ", ".join(f"'{_sql(path)}'" for path in sorted(self._parts.glob("part-*.parquet")))
        return f"read_parquet([{files}])"

    def _forget_beyond_whole_blocks(self) -> None:
        """Throw away what a kill left of a block that it did not let become whole."""
        block = int(self.info["settings"]["block"])
        whole = self.count() // block * block
        if self._segments.exists():
            with self._segments.open("rb") as file:
                kept = sum(len(line) for number, line in enumerate(file) if number < whole)
            os.truncate(self._segments, kept)
        for part in self._parts.glob("part-*.parquet"):
            if int(part.stem.removeprefix("part-")) * block >= whole:
                part.unlink()


def _refuse_another(book: Book, info: Mapping[str, Any]) -> None:
    needs = {
        "source_sha256": "the file that it began with",
        "model_sha256": "the model that it began with",
        "settings": "the settings that it began with",
    }
    for name in _FIXED:
        if book.info.get(name) != info[name]:
            raise RecordError(
                f"A book must go on with {needs[name]}, got {_difference(info[name], book.info.get(name))} in "
                f"{book.folder}; name another folder with --out, or delete this one."
            )


def _difference(now: Any, before: Any) -> str:
    """Say what is other than it was: digests by their beginnings, settings by name."""
    if isinstance(now, dict) and isinstance(before, dict):
        changed = [key for key in now if now[key] != before.get(key)]
        return ", ".join(f"{key} {now[key]} for {before.get(key)}" for key in changed)
    return f"one with SHA-256 {str(now)[:12]}… for {str(before)[:12]}…"


def _array(values: Any, kind: str) -> npt.NDArray[Any]:
    if not kind.endswith("[]"):
        return np.asarray(values)
    lists = np.empty(len(values), dtype=object)
    lists[:] = [np.asarray(one) for one in values]
    return lists


def _connection() -> duckdb.DuckDBPyConnection:
    # One thread writes rows in their order, so that the same rows are the same bytes.
    return duckdb.connect(config={"threads": 1})


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")
