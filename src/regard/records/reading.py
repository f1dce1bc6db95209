"""Read a file of records, and say in one sentence what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from regard._errors import RecordError

__all__ = ["first_problem", "read_json"]


def read_json(path: Path, need: str) -> Any:
    """Return the content of the JSON file at ``path``.

    Raises:
        RecordError: it is absent, which the message begins with ``need`` for, or damaged.
    """
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordError(f"{need}, got no file at {path}.") from error
    except json.JSONDecodeError as error:
        raise RecordError(f"{path} must hold JSON, got something else ({error}); the file is damaged.") from error


def first_problem(error: ValidationError) -> str:
    """Return where the first of the problems is, and what it is."""
    details = error.errors()[0]
    return f"{'.'.join(map(str, details['loc']))}: {details['msg']}"
