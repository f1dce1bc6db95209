"""Text files, plain or compressed, and what is said of those that cannot be read."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from regard._errors import DataError
from regard.data._suggest import suggestion

__all__ = ["COMPRESSED", "DAMAGED", "missing", "opened", "read_text", "undecodable"]

COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""Suffix -> what opens such a file."""

DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError)
"""What reading a damaged compressed file raises."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file, read through its compression, line ends as they are."""
    # utf-8-sig reads plain UTF-8 too and drops the byte order mark that spreadsheets write before the first column.
    opener = COMPRESSED.get(path.suffix.lower(), open)
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield file


def read_text(path: Path) -> str:
    """Return the content of a text file.

    Raises:
        DataError: the file is missing, damaged or not UTF-8.
    """
    if not path.is_file():
        raise DataError(missing(path))
    try:
        with opened(path) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise DataError(undecodable(path)) from error
    except DAMAGED as error:
        raise DataError(
            f"{path} must be a whole compressed file, got a damaged one ({error}); copy it again."
        ) from error


def missing(path: Path) -> str:
    """Return the sentence on a file that is not there."""
    if path.exists():
        return f"A data file is needed, got {path}, which is not a file; name the file in it."
    if not path.parent.is_dir():
        return f"A data file is needed, got {path}, whose folder does not exist; check the path."
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
    hint = suggestion(path.name, names)
    return f"A data file is needed, got no file at {path}; {hint if hint.startswith('did') else 'check the path.'}"


def undecodable(path: Path) -> str:
    """Return the sentence on a file that is not UTF-8, with the line."""
    with COMPRESSED.get(path.suffix.lower(), open)(path, "rb") as file:
        # No character of UTF-8 runs over a line end, so the line can be found by itself.
        number = next(number for number, line in enumerate(file, start=1) if not _is_utf8(line))
    return f"{path} must be UTF-8 text, got other bytes in line {number}; save the file as UTF-8."


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
