"""Numbers as a person reads them."""

import math

__all__ = ["Number", "count", "duration", "number", "percent", "plural"]

Number = float | int
"""What JSON calls a number: a value read from a file is an int where it happens to be whole."""


def number(value: Number | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits, without an exponent where it stays short."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -3 or size >= 7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _minus(f"{_trimmed(mantissa)}e{int(exponent)}")
    return _minus(_trimmed(f"{value:,.{max(0, digits - 1 - size)}f}"))


def percent(share: Number | None, digits: int = 1) -> str:
    """Return ``share`` (0 to 1) as a percentage."""
    return "–" if share is None or math.isnan(share) else _minus(f"{100 * share:.{digits}f}\u00a0%")


def count(value: Number | None) -> str:
    """Return a whole number with thousands separated, shortened from a million on."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f}"


def duration(seconds: Number | None) -> str:
    """Return seconds as ``42.1 s``, ``7 min 03 s`` or ``2 h 05 min``."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def plural(amount: int, noun: str) -> str:
    """Return ``1 error``, ``2 errors``."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _minus(text: str) -> str:
    return text.replace("-", "−")
