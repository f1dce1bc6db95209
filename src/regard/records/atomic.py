"""Whole files or none: write beside the target, flush to disk, rename over it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

__all__ = ["atomic_path", "write_bytes", "write_json"]

_JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` and rename it over ``target`` if the body succeeds.

    After an exception, also Ctrl-C or a full disk, ``target`` is what it was before and the temporary file is gone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Write ``content`` to ``target`` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_json(target: Path, content: Any) -> None:
    """Write ``content`` to ``target`` atomically as indented JSON; NaN becomes null."""
    write_bytes(target, orjson.dumps(content, option=_JSON_OPTIONS))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
