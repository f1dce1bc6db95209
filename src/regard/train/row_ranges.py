"""Row numbers of a split, kept small."""

from collections.abc import Sequence

__all__ = ["row_ranges"]


def row_ranges(rows: Sequence[int]) -> list[list[int]]:
    """Return ascending row numbers as [first, last] ranges, which keeps the file small."""
    ranges: list[list[int]] = []
    for row in sorted(rows):
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    return ranges
