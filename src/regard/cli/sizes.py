"""Sizes of memory as people write them, and numbers as people read them."""

import re

from regard._errors import ArgumentError

__all__ = ["bytes_of", "in_bytes", "in_flops", "in_seconds"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """Return the bytes that ``text`` names: ``8GB`` is 8·10⁹, ``8GiB`` 8·2³⁰.

    Raises:
        ArgumentError: it is no size above 0.
    """
    found = _SIZE.fullmatch(text.strip())
    size = 0
    if found is not None:
        unit = (found.group(2) or "").upper()
        size = round(float(found.group(1)) * (_UNITS | _BINARY)[unit])
    if size < 1:
        raise ArgumentError(f"--memory must be a size such as 8GB or 512MiB, got {text!r}.")
    return size


def in_bytes(size: int | float) -> str:
    """Return a size with a unit."""
    return _with_unit(size, (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)), "B")


def in_flops(number: int | float) -> str:
    """Return a number of operations with a unit."""
    units = (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6))
    return _with_unit(number, units, "FLOP")


def in_seconds(seconds: float) -> str:
    """Return a time with a unit."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _with_unit(number: int | float, units: tuple[tuple[str, float], ...], smallest: str) -> str:
    for unit, size in units:
        if number >= size:
            return f"{number / size:,.2f} {unit}"
    return f"{number:,.0f} {smallest}"
