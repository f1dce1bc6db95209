"""What a name stands for: something to check, or a function that makes it."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from regard._errors import ArgumentError
from regard.conformance.adapters import AttentionModule, Model

__all__ = ["is_made", "made"]

_READY = (nn.Module, AttentionModule, Model)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def made(found: Any, name: str) -> Callable[..., Any] | nn.Module | AttentionModule | Model:
    """Return what ``check`` takes: ``found`` itself, or what it returns when it is called without arguments.

    Args:
        found: a module, an adapter, a function of query, key and value, or a function or class without required
            arguments that gives one of these.
        name: what a message calls it.

    Raises:
        ArgumentError: it is nothing of these, or needs arguments.

    Example:
        >>> from torch.nn.functional import scaled_dot_product_attention
        >>> made(scaled_dot_product_attention, "attend") is scaled_dot_product_attention
        True
        >>> made(lambda: torch.nn.MultiheadAttention(8, 2), "make")
        MultiheadAttention(...
    """
    if is_made(found):
        return found  # type: ignore[no-any-return]
    if not callable(found):
        raise ArgumentError(
            f"{name} must be a model, a module, an attention function or a function that makes one, "
            f"got {type(found).__name__}."
        )
    needed = _required(found)
    if needed:
        raise ArgumentError(
            f"{name} must need no arguments to make a model, got one that needs {', '.join(needed)}; "
            "write a function without arguments that calls it."
        )
    result = found()
    if not is_made(result):
        kind = "None" if result is None else f"an object of type {type(result).__name__}"
        raise ArgumentError(f"{name} must return a model, a module or an attention function, got {kind}.")
    return result  # type: ignore[no-any-return]


def is_made(found: Any) -> bool:
    """Return whether ``found`` can be checked as it is: a module, an adapter, a function of query, key and value."""
    if isinstance(found, _READY):
        return True
    return callable(found) and not isinstance(found, type) and _attends(found)


def _attends(function: Callable[..., Any]) -> bool:
    """Return whether the first three arguments are called after query, key and value; built-in functions may be."""
    parameters = _parameters(function)
    if parameters is None:
        return True
    names = [one.name.lower() for one in parameters if one.kind in _POSITIONAL][:3]
    return len(names) == 3 and all(letter in name for letter, name in zip("qkv", names, strict=True))


def _required(function: Callable[..., Any]) -> list[str]:
    return [
        one.name
        for one in _parameters(function) or ()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C++
        return None
