"""A command whose exit status 1 is a verdict must not end with it for another reason."""

from collections.abc import Iterator
from contextlib import contextmanager

from regard._errors import RegardError

__all__ = ["CannotJudgeError", "judging"]


class CannotJudgeError(RegardError):
    """Nothing was judged, so that the exit status is neither 0 nor 1."""

    exit_code = 2


@contextmanager
def judging() -> Iterator[None]:
    """Have errors of regard, and files that cannot be written, end the command with exit status 2."""
    try:
        yield
    except RegardError as error:
        raise CannotJudgeError(str(error)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotJudgeError(
            f"Every file must be readable or writable, got '{reason}' at {error.filename}."
        ) from error
