"""What a cell of a table may hold to serve as a document or as its label."""

import math

from regard._errors import DataError

__all__ = ["as_label", "as_text"]


def as_text(value: object, column: str, where: str) -> str:
    """Return the document in a cell; null is an empty one, which the audit counts.

    Raises:
        DataError: the cell holds something other than text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"Column {column!r} must hold text, got {type(value).__name__} at {where}; name a text column.")
    return value


def as_label(value: object, column: str, where: str) -> str:
    """Return the class name in a cell; a number or boolean becomes its text.

    Raises:
        DataError: the cell is empty, or holds a list or another compound.
    """
    if (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    ):
        raise DataError(
            f"Every document needs a label, got none in column {column!r} at {where}; add it or drop the row."
        )
    if not isinstance(value, str | int | float):
        raise DataError(
            f"Column {column!r} must hold one class name or number per row, got {type(value).__name__} at {where}; "
            "name another column."
        )
    return str(value)
