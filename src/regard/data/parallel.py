"""Pairs of texts: a sentence and its translation, a command and its actions, each of which can say where it stood."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsIndex

from regard._errors import ArgumentError, DataError
from regard.data._cells import as_text
from regard.data.documents import normalized
from regard.data.splits import hold_out_groups
from regard.data.table import read_columns
from regard.data.text_files import read_text

__all__ = [
    "ParallelTexts",
    "drop_unpaired",
    "load_parallel_lines",
    "load_parallel_table",
    "load_scan",
    "split_parallel",
]

_SCAN = re.compile(r"IN: (.+) OUT: (.+)")


@dataclass(frozen=True, kw_only=True)
class ParallelTexts:
    """Source texts with one target text each, in the order of their file.

    Example:
        >>> pairs = ParallelTexts(source=["a dog"], target=["ein Hund"], name="captions", rows=[1])
        >>> pairs.where(0)
        'captions line 1'

    Attributes:
        source: what is read.
        target: what is to be written.
        name: what a person calls the data, such as a file name.
        rows: number of each pair in its file, counted as ``unit`` is usually counted there.
        unit: what ``rows`` counts: ``"line"`` or ``"row"``, from 1.
        files: the files that were read, as they were named.
        documents: name of the document that each pair stands in, such as a chapter; None where they stand alone.
        contexts: per pair the sources before it in its document, the nearest first; None where they are not wanted.
    """

    source: list[str]
    target: list[str]
    name: str
    rows: list[int]
    unit: str = "line"
    files: tuple[str, ...] = ()
    documents: list[str] | None = None
    contexts: list[tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        if not len(self.source) == len(self.target) == len(self.rows):
            raise ArgumentError(
                "source, target and rows must have one length, "
                f"got {len(self.source)}, {len(self.target)} and {len(self.rows)}; give one of each per pair."
            )
        for what, column in (("documents", self.documents), ("contexts", self.contexts)):
            if column is not None and len(column) != len(self.source):
                raise ArgumentError(f"{what} must hold one for each of {len(self.source)} pairs, got {len(column)}.")
        if not self.source:
            raise DataError(f"A data set needs at least one pair, got none in {self.name}; check what was read.")

    def __len__(self) -> int:
        return len(self.source)

    def where(self, index: int) -> str:
        """Say where pair ``index`` came from, as in ``train.tsv line 12``."""
        return f"{self.name} {self.unit} {self.rows[index]}"

    def take(self, indices: Iterable[SupportsIndex]) -> "ParallelTexts":
        """Return the pairs at ``indices``, in that order, with their origin."""
        chosen = [index.__index__() for index in indices]
        return replace(
            self,
            source=[self.source[index] for index in chosen],
            target=[self.target[index] for index in chosen],
            rows=[self.rows[index] for index in chosen],
            documents=None if self.documents is None else [self.documents[index] for index in chosen],
            contexts=None if self.contexts is None else [self.contexts[index] for index in chosen],
        )


def load_parallel_lines(source: str | Path, target: str | Path) -> ParallelTexts:
    """Read two text files, line for line each other's translation; ``.gz``, ``.bz2`` and ``.xz`` are read through.

    A line ends at a line feed (or carriage return and line feed) and nowhere else, as translators' tools count lines.

    Raises:
        DataError: a file is missing, damaged or not UTF-8, or the two have not the same number of lines.
    """
    source, target = Path(source), Path(target)
    texts, translations = _lines(source), _lines(target)
    if len(texts) != len(translations):
        raise DataError(
            f"{source} and {target} must have one line for each other's lines, got {len(texts)} and "
            f"{len(translations)}; a line that is left out shifts all behind it."
        )
    return ParallelTexts(
        source=texts,
        target=translations,
        name=source.name,
        rows=list(range(1, len(texts) + 1)),
        files=(str(source), str(target)),
    )


def load_parallel_table(
    path: str | Path,
    *,
    source: str,
    target: str,
    document: str | None = None,
    file_format: str | None = None,
    quotes: bool | None = None,
    header: bool = True,
) -> ParallelTexts:
    """Read two columns of one file, or three.

    Args:
        path: CSV, TSV, JSON lines or Parquet, plain or compressed; see ``load_table``.
        source: column of the texts that are read.
        target: column of the texts that are to be written.
        document: column of the names of the documents that the pairs stand in; None where they stand alone.
        file_format: ``"csv"``, ``"tsv"``, ``"jsonl"`` or ``"parquet"``; by default the suffix says.
        quotes: whether a double quote at the start of a CSV or TSV field opens a quoted field; see ``load_table``.
        header: whether the first line of CSV or TSV names the columns; without it they are called "1", "2", ….

    Raises:
        DataError: the file is missing, damaged or not UTF-8, a column is unknown, a line is broken, or a value no text.
        ArgumentError: ``file_format`` is not one of the four.
    """
    path = Path(path)
    names = [source, target] if document is None else [source, target, document]
    rows, unit = read_columns(path, *names, file_format=file_format, quotes=quotes, header=header)
    texts, translations, *documents = (
        [as_text(values[place], name, f"{path} {unit} {number}") for number, values in rows]
        for place, name in enumerate(names)
    )
    return ParallelTexts(
        source=texts,
        target=translations,
        name=path.name,
        rows=[number for number, _ in rows],
        unit=unit,
        files=(str(path),),
        documents=documents[0] if documents else None,
    )


def load_scan(path: str | Path) -> ParallelTexts:
    """Read a file of the SCAN data set: lines ``IN: jump twice OUT: I_JUMP I_JUMP``.

    Raises:
        DataError: the file is missing, damaged or not UTF-8, or a line has another form.

    References:
        Lake and Baroni, Generalization without systematicity, arXiv:1711.00350.
    """
    path = Path(path)
    found = [_SCAN.fullmatch(line) for line in _lines(path)]
    if None in found:
        number = found.index(None) + 1
        raise DataError(f"{path} line {number} must read IN: … OUT: …, got something else; check that it is SCAN's.")
    pairs = [match.groups() for match in found if match is not None]
    return ParallelTexts(
        source=[source for source, _ in pairs],
        target=[target for _, target in pairs],
        name=path.name,
        rows=list(range(1, len(pairs) + 1)),
        files=(str(path),),
    )


def drop_unpaired(pairs: ParallelTexts) -> tuple[ParallelTexts, list[str]]:
    """Remove pairs of which a side is empty or white space.

    Returns:
        The other pairs, and where each removed one came from.

    Raises:
        DataError: no pair has text on both sides.
    """
    both = [bool(source.strip() and target.strip()) for source, target in zip(pairs.source, pairs.target, strict=True)]
    if not any(both):
        raise DataError(f"A data set needs a pair with text on both sides, got none in {pairs.name}; check the files.")
    kept = [index for index, whole in enumerate(both) if whole]
    return pairs.take(kept), [pairs.where(index) for index, whole in enumerate(both) if not whole]


def split_parallel(pairs: ParallelTexts, *, share: float, seed: int) -> tuple[ParallelTexts, ParallelTexts]:
    """Divide pairs into a part to train on and a part held out; equal sources stay on one side.

    Args:
        pairs: what to divide.
        share: share of the pairs to hold out, in (0, 1), met as near as the groups of equal sources allow.
        seed: the same seed gives the same division.

    Returns:
        The part to train on and the part held out, each in the order of ``pairs``.

    Raises:
        ArgumentError: ``share`` is out of range.
        DataError: there are fewer than two different sources.
    """
    keys = [normalized(text) for text in pairs.source]
    rest, held = hold_out_groups(keys, share=share, seed=seed, what="sources", name=pairs.name)
    return pairs.take(rest), pairs.take(held)


def _lines(path: Path) -> list[str]:
    lines = read_text(path).split("\n")
    if lines[-1] == "":  # behind the last line feed there is no line
        lines.pop()
    if not lines:
        raise DataError(f"A file of texts must hold a line, got an empty file {path}; check that it is the right one.")
    return [line.removesuffix("\r") for line in lines]
