"""Turn a name that does not exist into a hint at the one that was meant."""

import difflib
from collections.abc import Iterable

__all__ = ["listed", "suggestion"]


def listed(names: Iterable[str], *, at_most: int = 20) -> str:
    """Join ``names`` for a message; a long list ends in how many more there are."""
    names = [repr(name) for name in names]
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest of ``known``, or a plain request to pick one of them."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]!r}?" if close else "name one of them."
