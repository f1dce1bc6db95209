"""`--assume causal=true`: corrections of what was found out, from text to the type of the trait."""

from collections.abc import Callable, Sequence
from typing import Any

from regard._errors import ArgumentError

__all__ = ["assumptions"]

_WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None}
_NUMBERS: dict[str, Callable[[str], Any]] = {
    "attention_factors": lambda text: tuple(float(one) for one in text.split(",")),
    "num_kv_heads": int,
    "scale": float,
    "softcap": float,
    "window": int,
}
_EXAMPLES = {
    "attention_factors": "1.2 or 1,1.2",
    "dtype": "float16",
    "num_kv_heads": "2",
    "scale": "0.125",
    "softcap": "50",
    "window": "128",
}


def assumptions(texts: Sequence[str]) -> dict[str, Any]:
    """Return name -> value, as ``regard.check`` takes them.

    Raises:
        ArgumentError: a text is not NAME=VALUE, or the value is not of the type of its trait. Names are judged by
            ``check`` itself.
    """
    return dict(_assumption(text) for text in texts)


def _assumption(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ArgumentError(f"--assume must be NAME=VALUE such as causal=true, got {text!r}.")
    return name, _value(name, value)


def _value(name: str, text: str) -> Any:
    word = text.lower()
    if word == "none":
        return None
    try:
        if name in _NUMBERS:
            return _NUMBERS[name](text)
        return _dtype(text) if name == "dtype" else _WORDS[word]
    except (KeyError, ValueError) as error:
        example = _EXAMPLES.get(name)
        needed = f"a value such as {example}" if example else "true, false or none"
        raise ArgumentError(f"--assume {name}= must have {needed}, got {text!r}.") from error


def _dtype(text: str) -> Any:
    import torch

    found = getattr(torch, text.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(text)
    return found
