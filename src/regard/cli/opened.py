"""What `regard profile` and `regard plan` are pointed at: a model, and how it is called with a batch of any length."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regard._errors import ArgumentError

if TYPE_CHECKING:
    from torch import nn

    from regard.cost import Inputs

__all__ = ["Opened", "open_model"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model to measure.

    Attributes:
        name: what a person reads.
        model: it; on the ``meta`` device where it was opened without weights.
        inputs: from whether it trains to what makes its inputs.
    """

    name: str
    model: "nn.Module"
    inputs: "Callable[[bool], Inputs]"


def open_model(text: str, *, weights: bool = True) -> Opened:
    """Load or import what ``text`` names; nothing is downloaded.

    Args:
        text: a folder with a model, the folder of a run, ``minilm``, ``lstm:WIDTH`` or ``lstm:WIDTHxLAYERS``, or an
            import path to a module, or to a function that returns one or (module, function from batch and length to
            arguments).
        weights: whether they are needed; without, a folder's config is enough.

    Raises:
        ArgumentError: there is no such thing, or it is no model and does not make one.
        MissingDependencyError: the model needs a package that is not installed.
        RecordError: the folder holds no model that can be loaded.
    """
    from regard.cli.target import folder_of, found_at

    if text.startswith("lstm:"):
        return _lstm(text)
    folder = folder_of(text)
    if folder is not None:
        from regard.cli.local_model import load_architecture

        return _opened(text, load_architecture(folder, weights=weights), None)
    with found_at(text) as found:
        return _opened(text, *_made(found, text))


def _opened(text: str, model: "nn.Module", inputs: "Inputs | None") -> Opened:
    from regard.cost import call_of

    def of(trains: bool) -> "Inputs":
        return call_of(model, trains=trains) if inputs is None else inputs

    return Opened(name=text, model=model, inputs=of)


def _made(found: Any, text: str) -> "tuple[nn.Module, Inputs | None]":
    """Return the module that ``found`` is or makes, and what makes its inputs if that is told."""
    import inspect

    from torch import nn

    if not isinstance(found, nn.Module) and callable(found):
        needed = [
            one.name
            for one in inspect.signature(found).parameters.values()
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        if needed:
            raise ArgumentError(
                f"{text} must need no arguments to make a model, got one that needs {', '.join(needed)}; "
                "write a function without arguments that calls it."
            )
        found = found()
    model, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"{text} must be a module, or return one or (module, function from batch and length to arguments), "
            f"got {type(model).__name__}."
        )
    return model, None if inputs is None else _checked(inputs, text)


def _checked(inputs: Any, text: str) -> "Inputs":
    from regard.cost import Arguments

    if not callable(inputs):
        raise ArgumentError(f"{text} must return a function that makes inputs, got {type(inputs).__name__}.")

    def make(batch: int, length: int) -> Arguments:
        made = inputs(batch, length)
        if isinstance(made, Arguments):
            return made
        if isinstance(made, dict):
            return Arguments(named=made)
        return Arguments(positional=made if isinstance(made, list | tuple) else [made])

    return make


def _lstm(text: str) -> Opened:
    """Return an LSTM to hold a model against."""
    from torch import nn

    width, _, layers = text.removeprefix("lstm:").partition("x")
    if not width.isdigit() or not (layers or "1").isdigit() or int(width) < 1 or int(layers or 1) < 1:
        raise ArgumentError(f"An LSTM must read lstm:WIDTH or lstm:WIDTHxLAYERS, such as lstm:768x12, got {text!r}.")
    model = nn.LSTM(int(width), int(width), int(layers or 1), batch_first=True)
    return _opened(text, model, None)
