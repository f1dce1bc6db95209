"""Logs: a name and fields, through the standard library's logging, as text, JSON, Loguru or structlog.

What regard tells goes to loggers below ``regard`` (``regard.watch``, ``regard.train``) and is heard nowhere until a
program says so: with ``configure``, with handlers of its own, or with one of the two bridges. This module imports no
torch; every room may use it.
"""

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import orjson

from regard._errors import ArgumentError, MissingDependencyError, UnsupportedError

__all__ = ["JsonFormatter", "TextFormatter", "configure", "event", "fields_of", "to_loguru", "to_structlog"]

_ROOT = "regard"
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_NAMES = {number: name for name, number in _LEVELS.items()}
_ENVIRONMENT = "REGARD_LOG"
# What every record has, and what formatters of the standard library add; all else on a record is a field.
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_RESERVED = _OF_EVERY_RECORD | {"time", "level", "event", "exception", "stack"}

logging.getLogger(_ROOT).addHandler(logging.NullHandler())  # a library is silent until a program wants to hear it


def event(logger: logging.Logger, level: int, name: str, /, **fields: Any) -> None:
    """Log an event: a name and fields. Where ``level`` is off, nothing is formatted.

    The fields are attributes of the record, as with ``extra=``, so that any handler that reads those reads them.

    Args:
        logger: one below ``regard``, such as ``logging.getLogger("regard.watch")``.
        level: such as ``logging.INFO``.
        name: of the event, one word.
        **fields: numbers, text, truth values, None, lists and dicts of them; anything else is logged as its ``str``.

    Raises:
        ArgumentError: a field has a name that every record has already, such as ``message`` or ``level``.

    Example:
        >>> event(logging.getLogger("regard.watch"), logging.INFO, "layer", step=3, layer="encoder.0", entropy=2.31)
    """
    if not fields.keys().isdisjoint(_RESERVED):
        taken = ", ".join(sorted(fields.keys() & _RESERVED))
        raise ArgumentError(f"A field of an event must not be named as what every record has, got {taken}; rename it.")
    if logger.isEnabledFor(level):
        logger.log(level, name, extra=fields, stacklevel=2)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of an event in the order in which they were given, for handlers and formatters of your own.

    What a program's own record factory adds is a field too, unless its name begins with ``_``, as those that Ray adds.
    """
    given = vars(record).items()
    return {name: value for name, value in given if name not in _OF_EVERY_RECORD and not name.startswith("_")}


class TextFormatter(logging.Formatter):
    r"""One line an event for people, grep and awk: ``time LEVEL event key=value key=value``.

    Numbers have six significant digits. A value with spaces, quotes or ``=`` is written as a JSON string in which ``=``
    is ``\u003d``: every word of the line that holds a ``=`` is a field, whatever was logged.

    Example:
        >>> record = logging.makeLogRecord({"msg": "layer", "levelname": "INFO", "created": 0.0, "entropy": 2.3123456})
        >>> TextFormatter().format(record)
        '1970-01-01T00:00:00.000+00:00 INFO layer entropy=2.31235'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        head = (_time(record), record.levelname, _text(record.getMessage()))
        return " ".join((*head, *(f"{name}={_text(value)}" for name, value in _fields_and_trace(record).items())))


class JsonFormatter(logging.Formatter):
    """One line of JSON an event: ``time``, ``level``, ``event``, then the fields, as in a run's ``events.jsonl``.

    Numbers keep every digit; NaN and infinity, which JSON lacks, are null.

    Example:
        >>> record = logging.makeLogRecord({"msg": "layer", "levelname": "INFO", "created": 0.0, "entropy": 2.3123456})
        >>> JsonFormatter().format(record)
        '{"time":"1970-01-01T00:00:00.000+00:00","level":"info","event":"layer","entropy":2.3123456}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        head = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return _json({**head, **_fields_and_trace(record)})


def configure(
    level: int | str | None = None,
    *,
    file: Path | str | None = None,
    format: str = "text",  # noqa: A002 -- the word that people look for
    max_bytes: int = 0,
    backups: int = 3,
) -> logging.Handler:
    """Say what is heard and where it goes, for a program that does not set up logging by itself.

    It changes the logger ``regard`` alone, never the root logger. Called again, it replaces what it set up before.

    Args:
        level: debug, info, warning, error, critical, or a number of the standard library; by default what the
            environment variable ``REGARD_LOG`` says, else warning.
        file: appended to, each line in one write; by default lines go to stderr. A kill can tear the last line at most,
            and what is appended later begins on a new one.
        format: ``"text"`` or ``"json"``.
        max_bytes: with ``file``: begin a new file when this one would grow beyond; 0 for never.
        backups: how many older files to keep beside it, as ``file.1`` (the newest), ``file.2``.

    Returns:
        The handler, which has been added to the logger ``regard``.

    Raises:
        ArgumentError: an unknown level or format, a file that cannot be written, a rotation that cannot mean anything.
    """
    if format not in ("text", "json"):
        raise ArgumentError(f'format must be "text" or "json", got {format!r}.')
    if max_bytes < 0 or backups < 1 or (max_bytes and file is None):
        raise ArgumentError(
            f"Rotation needs a file, max_bytes of 0 or more and at least one backup; "
            f"got file={file}, max_bytes={max_bytes}, backups={backups}."
        )
    number = _level(level)
    handler: logging.Handler = _Stderr() if file is None else _open(Path(file), max_bytes, backups)
    handler.setFormatter(TextFormatter() if format == "text" else JsonFormatter())
    logger = logging.getLogger(_ROOT)
    for old in [old for old in logger.handlers if isinstance(old, _Stderr | _File)]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(number)
    return handler


def to_loguru() -> logging.Handler:
    """Return a handler that hands every record to Loguru, with time, place and level kept and the fields as ``extra``.

    Add it to the logger ``regard`` and set that logger's level; Loguru's own sinks then choose and format.

    Raises:
        MissingDependencyError: Loguru is not installed.
    """
    try:
        from loguru import logger
    except ImportError as error:
        raise MissingDependencyError(
            'Loguru is needed to hand logs to it, which is not installed; run `pip install "regard[loguru]"`.'
        ) from error
    return _Bridge(lambda record: _tell_loguru(logger, record))


def to_structlog() -> logging.Handler:
    """Return a handler that hands every record to structlog, as a logger of the same name with the same fields.

    Add it to the logger ``regard`` and set that logger's level; structlog's processors then choose and format.
    Configure structlog first. It knows five levels; a record between two of them gets the lower one.

    Raises:
        MissingDependencyError: structlog is not installed.
        UnsupportedError: structlog hands its lines to the standard library, from where they would come back.
    """
    try:
        import structlog
    except ImportError as error:
        raise MissingDependencyError(
            'structlog is needed to hand logs to it, which is not installed; run `pip install "regard[structlog]"`.'
        ) from error
    _refuse_a_circle(structlog)
    return _Bridge(lambda record: _tell_structlog(structlog, record))


class _Bridge(logging.Handler):
    """Hands records on; whoever receives them writes them."""

    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record)


def _tell_loguru(loguru: Any, record: logging.LogRecord) -> None:
    place = {"name": record.name, "module": record.module, "function": record.funcName, "line": record.lineno}

    def keep(told: dict[str, Any]) -> None:
        told.update(place, time=told["time"].fromtimestamp(record.created, tz=told["time"].tzinfo))

    level = _NAMES[record.levelno].upper() if record.levelno in _NAMES else record.levelno
    loguru.bind(**fields_of(record)).patch(keep).opt(exception=record.exc_info).log(level, record.getMessage())


def _tell_structlog(structlog: Any, record: logging.LogRecord) -> None:
    _refuse_a_circle(structlog)
    fields = fields_of(record)
    if record.exc_info:
        fields["exc_info"] = record.exc_info
    # Methods, because only they exist on each kind of logger that structlog can be configured to give.
    level = max((number for number in _NAMES if number <= record.levelno), default=logging.DEBUG)
    getattr(structlog.get_logger(record.name), _NAMES[level])(record.getMessage(), **fields)


def _refuse_a_circle(structlog: Any) -> None:
    if isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory):
        raise UnsupportedError(
            "structlog must write its lines by itself here, got one that hands them to the standard library, which "
            "would hand them back; give your handler structlog.stdlib.ProcessorFormatter with ExtraAdder instead."
        )


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at that moment, so that lines stand above a progress bar that replaces it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr


class _File(RotatingFileHandler):
    """The file that ``configure`` opened: what is appended begins on a line of its own."""

    def _open(self) -> Any:
        path = Path(self.baseFilename)
        if path.is_file() and path.stat().st_size:
            with path.open("rb+") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a kill has torn the last line
                    file.write(b"\n")
        return super()._open()


def _open(file: Path, max_bytes: int, backups: int) -> _File:
    try:
        return _File(file, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArgumentError(
            f"A log file must be one that can be written, got '{reason}' at {file}; name another."
        ) from error


def _level(level: int | str | None) -> int:
    said = os.environ.get(_ENVIRONMENT) or "warning" if level is None else level
    if isinstance(said, int):
        return said
    if said.lower() not in _LEVELS:
        where = f" from the environment variable {_ENVIRONMENT}" if level is None else ""
        raise ArgumentError(f"A log level must be one of {', '.join(_LEVELS)}; got {said!r}{where}.")
    return _LEVELS[said.lower()]


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _fields_and_trace(record: logging.LogRecord) -> dict[str, Any]:
    fields = fields_of(record)
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _json(value: object) -> str:
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=str, option=options).decode()


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or isinstance(value, bool | list | tuple | dict):
        return _json(value).replace(" ", r"\u0020").replace("=", r"\u003d")
    plain = str(value)
    if plain and plain.isprintable() and not any(sign in plain for sign in ' "=\\'):
        return plain
    return _json(plain).replace("=", r"\u003d")
