"""The attention layers of a model: their names, which of them is running, and what is known of them beforehand."""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from regard._errors import ArgumentError
from regard.observe.calls import AttentionCall
from regard.observe.frames import calling_module

__all__ = ["Layers", "attention_modules", "unwrapped"]

_CROSS = re.compile(r"cross|enc_?dec|encoder_attn|multihead_attn", re.IGNORECASE)
_SELF = re.compile(r"self", re.IGNORECASE)
_NUM_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead")


class Layers:
    """Attention layers of ``model`` by dotted name.

    Args:
        model: the watched model, without wrappers.
        extra: classes of modules that are attention though their names do not say so.
        adapted: classes of modules that report themselves.
    """

    def __init__(
        self, model: nn.Module, *, extra: Sequence[type[nn.Module]] = (), adapted: Sequence[type[nn.Module]] = ()
    ) -> None:
        self._names = {module: _plain(name) for name, module in model.named_modules()}
        self.modules = {name: module for module, name in self._names.items()}
        self.attention = attention_modules(model, (*extra, *adapted))
        self._known = set(self.attention)
        self._adapted = [name for name, module in self.modules.items() if isinstance(module, tuple(adapted))]
        self._below: dict[str, list[str]] = {}
        self._own = threading.local()
        self.by_order: set[str] = set()

    def begin_forward(self) -> None:
        """Count the calls of compiled modules in this thread from the start again."""
        self._own.taken = Counter()

    def running(self, certain: bool) -> str | None:
        """Return the attention layer that is running, or None.

        A call from a module that holds exactly one attention layer is that layer's. A call out of compiled code, where
        the modules within are gone, belongs to the next attention layer in the order of the model; ``by_order`` tells
        which layers got their calls so.

        Args:
            certain: the operator is attention whoever calls it; otherwise only attention modules count.
        """
        caller = calling_module(self._names)
        if caller is None or self._is_adapted(caller.name):
            return None
        if caller.name in self._known:
            return caller.name
        if not certain:
            return None
        below = self._attention_below(caller.name)
        if caller.compiled and len(below) > 1:
            return self._next(caller.name, below)
        return below[0] if len(below) == 1 else caller.name

    def num_heads(self, layer: str) -> int | None:
        """Return how many heads ``layer`` says that it has."""
        module = self.modules.get(layer)
        for holder in (module, getattr(module, "config", None)):
            for name in _NUM_HEADS:
                number = getattr(holder, name, None)
                if isinstance(number, int) and number > 0:
                    return number
        return None

    def packed_heads(self, layer: str, call: AttentionCall) -> int:
        """Return how many heads share a key head if ``call`` has them in the place of its queries, else 1.

        ``transformers`` calls its kernel so for one query and grouped heads: (batch, kv_heads, group, head_dim).
        """
        group = getattr(self.modules.get(layer), "num_key_value_groups", 1)
        packed = isinstance(group, int) and group > 1 and call.q_len == group
        return group if packed and call.num_heads * group == self.num_heads(layer) else 1

    def crosses(self, layer: str) -> bool | None:
        """Return whether ``layer`` attends to another sequence, as its name or class says; None if they do not say."""
        module = self.modules.get(layer)
        told = getattr(module, "is_cross_attention", None)
        if isinstance(told, bool):
            return told
        words = f"{'.'.join(layer.split('.')[-2:])} {type(module).__name__}"
        if _CROSS.search(words):
            return True
        return False if _SELF.search(words) else None

    def in_decoder(self, layer: str) -> bool:
        """Return whether ``layer`` lies in something called a decoder."""
        return any(part.startswith("decoder") for part in layer.split("."))

    def _is_adapted(self, name: str) -> bool:
        return any(name == outer or name.startswith(_prefix(outer)) for outer in self._adapted)

    def _attention_below(self, name: str) -> list[str]:
        if name not in self._below:
            prefix = _prefix(name)
            self._below[name] = [layer for layer in self.attention if layer.startswith(prefix)]
        return self._below[name]

    def _next(self, name: str, below: Sequence[str]) -> str:
        taken: Counter[str] = self._own.__dict__.setdefault("taken", Counter())
        layer = below[taken[name] % len(below)]
        taken[name] += 1
        self.by_order.add(layer)
        return layer


def attention_modules(model: nn.Module, extra: Iterable[type[nn.Module]] = ()) -> list[str]:
    """Return the dotted names of modules that look like attention: the innermost whose class says so, or is ``extra``.

    A class says so by its name.
    """
    named = tuple(extra)
    modules = [(_plain(name), module) for name, module in model.named_modules()]
    found = [name for name, module in modules if isinstance(module, named) or _says_attention(module)]
    return [name for name in found if not any(other.startswith(_prefix(name)) for other in found if other != name)]


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the person's own module: without ``torch.compile``'s and data-parallel wrappers, whose names say nothing.

    Raises:
        ArgumentError: ``model`` is not a module.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"watch needs an nn.Module, got {type(model).__name__}; wrap a function in a module.")
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (DistributedDataParallel, DataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _says_attention(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "attention" in name or "attn" in name


def _plain(name: str) -> str:
    """Return a dotted name without the steps that ``torch.compile`` puts around a module."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _prefix(name: str) -> str:
    return f"{name}." if name else ""
