"""Reading a decoder's ``config.json``: what every architecture has."""

from collections.abc import Mapping
from typing import Any

from regard._errors import ArgumentError, RecordError
from regard.models.decoder_config import DecoderConfig

__all__ = ["given", "made", "stop_ids"]


def given(values: Mapping[str, Any], keys: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return our field -> value; ``keys`` says where it stands and what holds where it does not."""
    return {ours: values.get(theirs, default) for ours, (theirs, default) in keys.items()}


def stop_ids(values: Mapping[str, Any], default: int) -> tuple[int, ...]:
    """Return the ids that end a text, of which a file names none, one or several."""
    found = values.get("eos_token_id", default)
    if found is None:
        return ()
    return tuple(found) if isinstance(found, list) else (found,)


def made(fields: Mapping[str, Any], *, source: str) -> DecoderConfig:
    """Return the config with these fields.

    Raises:
        RecordError: a value is impossible.
    """
    try:
        return DecoderConfig(**fields)
    except (ArgumentError, TypeError) as error:
        raise RecordError(f"{source} does not describe a decoder: {error}") from error
