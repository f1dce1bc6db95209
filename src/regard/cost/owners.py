"""Whose weights lie in a piece of memory, and where in a model a module stands."""

import re

from torch import Tensor, nn

__all__ = ["Owners", "layer_of", "storage_key"]

_RECURRENT = re.compile(r"^(LSTM|GRU|RNN|[A-Z]\w*(LSTM|GRU|RNN)(Cell)?$)")


class Owners:
    """The parameters and buffers of a model by the memory that they lie in.

    A weight is known by its memory, so a slice, a transposed view or a tied copy of it is still that weight.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = {module: name for name, module in model.named_modules()}
        self._by_name = dict(model.named_modules())
        self.weights: dict[int, str] = {}
        for name, parameter in model.named_parameters():
            self.weights.setdefault(storage_key(parameter), name)
        self.buffers = {storage_key(buffer) for buffer in model.buffers() if storage_key(buffer) not in self.weights}
        self._embeddings = {
            storage_key(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
        }
        self._tied = {name for key, name in self.weights.items() if key in self._embeddings}

    def is_embedding(self, parameter: str) -> bool:
        """Return whether ``parameter`` is the table of an embedding, by whatever name."""
        return parameter in self._tied

    def is_recurrent(self, parameter: str) -> bool:
        """Return whether ``parameter`` belongs to a recurrent network."""
        names = parameter.split(".")
        holders = (self._by_name.get(".".join(names[:end])) for end in range(len(names)))
        return any(
            isinstance(holder, nn.RNNBase | nn.RNNCellBase) or bool(_RECURRENT.match(type(holder).__name__))
            for holder in holders
        )

    def class_of(self, module: str) -> str:
        """Return the name of a module's class."""
        return type(self._by_name.get(module)).__name__

    def is_norm(self, module: str) -> bool:
        """Return whether the class of a module says that it is a norm."""
        return self.class_of(module).lower().endswith("norm")


def storage_key(tensor: Tensor) -> int:
    """Return what tells the memory of ``tensor`` from all other memory that is in use."""
    key: int = tensor.untyped_storage()._cdata
    return key


def layer_of(name: str) -> str:
    """Return the innermost numbered module that ``name`` lies in, such as ``encoder.layer.3``; "" for none."""
    parts = name.split(".")
    numbered = [end for end, part in enumerate(parts, start=1) if part.isdigit()]
    return ".".join(parts[: numbered[-1]]) if numbered else ""
