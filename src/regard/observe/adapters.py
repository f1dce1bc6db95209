"""Attention that no kernel of PyTorch computes, shown by a few lines of the person who wrote it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from regard._errors import ArgumentError
from regard.observe.calls import AttentionCall

__all__ = ["Adapter", "Adapters"]

Adapter = Literal["softmax"] | Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], AttentionCall | None]
"""How the attention of a class of modules is to be seen.

``"softmax"``: it is attention by a softmax over scores, though its class is not called so. Else a function of the
module, the positional and the named arguments of its ``forward`` and its result. It returns an ``AttentionCall`` with
the query, key and masks that the module used (computed again if need be; no gradients, and the random state is put
back), or None where there was no attention.
"""


class Adapters:
    """The adapters of one watch."""

    def __init__(self, adapters: Mapping[type[nn.Module], Adapter]) -> None:
        for kind, adapter in adapters.items():
            if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
                raise ArgumentError(f"adapters must be given for classes of nn.Module, got {kind!r}.")
            if adapter != "softmax" and not callable(adapter):
                raise ArgumentError(f'An adapter must be "softmax" or a function, got {adapter!r} for {kind.__name__}.')
        self._adapters = dict(adapters)

    @property
    def by_softmax(self) -> list[type[nn.Module]]:
        """Classes whose softmax is attention."""
        return [kind for kind, adapter in self._adapters.items() if adapter == "softmax"]

    @property
    def by_report(self) -> list[type[nn.Module]]:
        """Classes whose modules are seen through a function."""
        return [kind for kind, adapter in self._adapters.items() if adapter != "softmax"]

    def hook(
        self, modules: Mapping[str, nn.Module], take: Callable[[str, AttentionCall], None]
    ) -> list[RemovableHandle]:
        """Put a hook on every module of ``modules`` that is seen through a function; ``take`` gets what it returns."""
        handles = []
        for kind in self.by_report:
            for name, module in modules.items():
                if isinstance(module, kind):
                    hook = _reporting(name, self._adapters[kind], take)
                    handles.append(module.register_forward_hook(hook, with_kwargs=True))
        return handles


def _reporting(name: str, adapter: Any, take: Callable[[str, AttentionCall], None]) -> Callable[..., None]:
    def report(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        with torch.no_grad(), torch.random.fork_rng():
            call = adapter(module, args, kwargs, result)
        if call is None:
            return
        if not isinstance(call, AttentionCall):
            raise ArgumentError(
                f"The adapter of {type(module).__name__} must return an AttentionCall or None, "
                f"got {type(call).__name__}."
            )
        take(name, call)

    return report
