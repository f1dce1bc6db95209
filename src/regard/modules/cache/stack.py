"""The caches of a model's layers, as one."""

from collections.abc import Iterable, Iterator

from jaxtyping import Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.modules.cache.protocol import KeyValueCache

__all__ = ["CacheStack"]


class CacheStack:
    """One cache for each layer of a model, in the order of the layers.

    Args:
        layers: the caches, each of its own layer.

    Raises:
        ArgumentError: no layer, or one cache twice.

    Example:
        >>> from regard.modules import DynamicCache
        >>> stack = CacheStack(DynamicCache() for _ in range(12))
        >>> stack.length, stack.num_bytes
        (0, 0)
    """

    def __init__(self, layers: Iterable[KeyValueCache]) -> None:
        self.layers = tuple(layers)
        if not self.layers or len({id(layer) for layer in self.layers}) != len(self.layers):
            raise ArgumentError("A CacheStack needs a cache of its own for each layer, got none or one twice.")

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[KeyValueCache]:
        return iter(self.layers)

    @property
    def length(self) -> int:
        """Return how many tokens the first layer has, padding included."""
        return self.layers[0].length

    @property
    def num_bytes(self) -> int:
        """Return the memory of all layers, in bytes."""
        return sum(layer.num_bytes for layer in self.layers)

    @property
    def max_len(self) -> int | None:
        """Return how many tokens all layers can take, None for any number."""
        limits = [layer.max_len for layer in self.layers if layer.max_len is not None]
        return min(limits) if limits else None

    def positions(self, q_len: int, keep: Tensor | None = None) -> Int[Tensor, "*sequences q_len"]:
        """Return the places of the next ``q_len`` tokens; ask before the first layer appends them."""
        return self.layers[0].positions(q_len, keep)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep the sequences ``rows`` in every layer."""
        for layer in self.layers:
            layer.select(rows)
