"""A private copy of a module: what is measured on it leaves the original as it is."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from regard.conformance.outcome import NotTestedError

__all__ = ["cast", "dropout_raised", "parameter_dtype", "private_copy"]


def private_copy(module: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a copy in ``dtype``, in evaluation mode.

    Of the hooks only PyTorch's own stay, such as that of ``weight_norm``: others may belong to whoever watches or
    records the original.

    Raises:
        NotTestedError: it cannot be copied.
    """
    try:
        twin = copy.deepcopy(module, _hooks_left_out(module))
    except (RuntimeError, TypeError) as error:
        raise NotTestedError(f"check works on a copy, and the model cannot be copied: {error}") from error
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return twin.to(dtype).eval()


def _hooks_left_out(module: nn.Module) -> dict[int, Any]:
    """Return what ``deepcopy`` is to take for the dictionaries of hooks: the same with PyTorch's own alone."""
    taken: dict[int, Any] = {}
    for one in module.modules():
        for hooks in (one._forward_hooks, one._forward_pre_hooks, one._backward_hooks, one._backward_pre_hooks):
            taken[id(hooks)] = OrderedDict((key, hook) for key, hook in hooks.items() if _is_pytorchs(hook))
    return taken


def _is_pytorchs(hook: Any) -> bool:
    return str(getattr(hook, "__module__", None) or type(hook).__module__).startswith("torch.")


def parameter_dtype(module: nn.Module) -> torch.dtype:
    """Return the type of the first floating parameter or buffer; float32 where there is none."""
    tensors = (one for group in (module.parameters(), module.buffers()) for one in group)
    return next((one.dtype for one in tensors if one.dtype.is_floating_point), torch.float32)


@contextmanager
def cast(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Have ``module`` in ``dtype`` meanwhile, and every parameter and buffer back bit for bit afterwards."""
    tensors = [one for group in (module.parameters(), module.buffers()) for one in group]
    before = [one.data for one in tensors]
    try:
        module.to(dtype)
        yield
    finally:
        for one, data in zip(tensors, before, strict=True):
            one.data = data


@contextmanager
def dropout_raised(module: nn.Module, probability: float) -> Iterator[int]:
    """Set every dropout probability of ``module`` meanwhile; yields how many there are."""
    found: list[tuple[nn.Module, str, float]] = []
    for one in module.modules():
        for name, value in vars(one).items():
            if isinstance(value, float) and ("drop" in name or (name == "p" and "drop" in type(one).__name__.lower())):
                found.append((one, name, value))
    for one, name, _ in found:
        setattr(one, name, probability)
    try:
        yield len(found)
    finally:
        for one, name, value in found:
            setattr(one, name, value)
