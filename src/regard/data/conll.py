"""Files in columns with one word a line, as the shared tasks of CoNLL published them."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from regard._errors import ArgumentError, DataError
from regard.data.tagged import TaggedSentences
from regard.data.text_files import read_text

__all__ = ["load_conll"]

_DOCUMENT = "-DOCSTART-"
_COLUMNS_OF_U = 10
_NO_WORD_OF_U = re.compile(r"\d+[-.]\d+")  # 3-4 is a range of words that follow, 8.1 a word that was not said


def load_conll(path: str | Path, *, word_column: int = 1, tag_column: int = -1) -> TaggedSentences:
    """Read a file with one word a line and a blank line between sentences, compressed or not.

    Columns stand between tabs where the file has any, else between runs of white space. Lines that
    begin with ``-DOCSTART-`` are no words; nor are, in a file with tabs, lines that begin with ``#`` and have none, and
    the ranges and empty nodes of CoNLL-U. They are counted in ``left_out``.

    Args:
        path: the file.
        word_column: column of the words, counted from 1, or from -1 at the end.
        tag_column: column of the tags, counted likewise.

    Returns:
        The sentences; the row of each is the line that its first word stands in.

    Raises:
        ArgumentError: a column of number 0, or the same column twice.
        DataError: the file is missing, damaged or not UTF-8, holds no sentence, or a line lacks a column.
    """
    if 0 in (word_column, tag_column) or word_column == tag_column:
        raise ArgumentError(
            f"Columns must be two different ones, counted from 1 or, at the end, from -1; got {word_column} for the "
            f"words and {tag_column} for the tags."
        )
    path = Path(path)
    lines = read_text(path).split("\n")
    has_tabs = any("\t" in line for line in lines)
    left_out: Counter[str] = Counter()
    words: list[list[str]] = []
    tags: list[list[str]] = []
    rows: list[int] = []
    open_sentence = False
    for number, columns in _columns(lines, has_tabs, left_out):
        if columns is None:
            open_sentence = False
            continue
        word, tag = (_cell(columns, column, path, number) for column in (word_column, tag_column))
        if not open_sentence:
            words.append([])
            tags.append([])
            rows.append(number)
            open_sentence = True
        words[-1].append(word)
        tags[-1].append(tag)
    if not words:
        raise DataError(f"A file of tagged words must hold a sentence, got none in {path}; check that it is the one.")
    name = path.name
    return TaggedSentences(words=words, tags=tags, name=name, rows=rows, files=(str(path),), left_out=dict(left_out))


def _columns(lines: list[str], has_tabs: bool, left_out: Counter[str]) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the number and the columns of each line with a word, None for the end of a sentence."""
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r")
        if not line.strip():
            yield number, None
        elif line.startswith(_DOCUMENT):
            left_out["marks of documents"] += 1
            yield number, None
        elif has_tabs and line.startswith("#") and "\t" not in line:
            left_out["comments"] += 1
        else:
            columns = line.split("\t") if has_tabs else line.split()
            if has_tabs and len(columns) == _COLUMNS_OF_U and _NO_WORD_OF_U.fullmatch(columns[0]):
                left_out["ranges and empty nodes"] += 1
            else:
                yield number, columns


def _cell(columns: list[str], column: int, path: Path, number: int) -> str:
    place = column - 1 if column > 0 else len(columns) + column
    if not 0 <= place < len(columns) or not columns[place].strip():
        raise DataError(
            f"Every line of a word must have a column {column}, got {len(columns)} columns in {path} line {number}; "
            "set data.word_column and data.tag_column, or complete the line."
        )
    return columns[place].strip()
