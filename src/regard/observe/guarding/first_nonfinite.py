"""Run a batch once more and name the module whose output is the first that is not finite."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import ArgumentError

__all__ = ["first_nonfinite"]


def first_nonfinite(model: nn.Module, *args: Any, **kwargs: Any) -> str | None:
    """Return the dotted name of the first module of ``model`` whose output holds NaN or infinity, or None.

    The model runs once, without gradients, in the mode that it is in, and with a hook on every module: PyTorch may take
    other kernels than without hooks. Random numbers are put back; what the model itself remembers (running means, a
    cache that is handed in) changes as in any forward.

    Args:
        model: the model; the hooks are gone afterwards, also after an exception.
        *args: of its forward.
        **kwargs: of its forward.

    Returns:
        The name, ``""`` for the model itself; the innermost module is named, since it ends first.

    Example:
        >>> broken = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        >>> _ = torch.nn.init.constant_(broken[1].weight, float("inf"))
        >>> first_nonfinite(broken, torch.ones(2, 4))
        '1'
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"first_nonfinite needs an nn.Module, got {type(model).__name__}; wrap it in a module.")
    found: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def look(module: nn.Module, _: Any, output: Any) -> None:
        if not found and any(not bool(tensor.isfinite().all()) for tensor in _tensors(output)):
            found.append(names[module])

    handles = [module.register_forward_hook(look) for module in names]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _tensors(output: Any) -> Iterator[Tensor]:
    """Yield the floating tensors of a module's output, however it is packed."""
    if isinstance(output, Tensor):
        if output.is_floating_point() and not output.is_nested:
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
