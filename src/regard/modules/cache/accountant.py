"""What a cache will take before it is filled, and how much context a budget of memory has room for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regard._errors import ArgumentError
from regard.modules.cache.protocol import KeyValueCache

__all__ = ["CacheShape", "cache_bytes", "longest_context"]


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """What the keys and values of a model look like.

    Attributes:
        num_layers: layers with a cache.
        num_kv_heads: key and value heads of a layer.
        head_dim: width of a key.
        value_dim: width of a value; None for ``head_dim``.
        dtype: type in which keys and values are computed.

    Raises:
        ArgumentError: a size below 1.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    value_dim: int | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        sizes = (self.num_layers, self.num_kv_heads, self.head_dim, 1 if self.value_dim is None else self.value_dim)
        if min(sizes) < 1:
            raise ArgumentError(f"The sizes of a CacheShape must be at least 1, got {self}.")


def cache_bytes(cache: KeyValueCache, shape: CacheShape, length: int, *, batch: int = 1) -> int:
    """Return the bytes that caches of this kind take once ``length`` tokens are in them, for all layers together.

    For keys and values as they are that is 2 · layers · kv_heads · head_dim · bytes of a number · room · batch, where
    room is ``length`` as the kind rounds it.

    Args:
        cache: one of the kind, such as ``DynamicCache()``; it is not changed.
        shape: of the model.
        length: tokens of a sequence, padding included.
        batch: sequences.

    Example:
        >>> from regard.modules import DynamicCache
        >>> cache_bytes(DynamicCache(), CacheShape(num_layers=12, num_kv_heads=12, head_dim=64), 1024)
        75497472
    """
    value_dim = shape.head_dim if shape.value_dim is None else shape.value_dim
    token = sum(cache.token_bytes(width, shape.dtype) for width in (shape.head_dim, value_dim))
    return shape.num_layers * shape.num_kv_heads * token * cache.room(length) * batch


def longest_context(
    make: Callable[[int], KeyValueCache], shape: CacheShape, budget_bytes: int, *, max_len: int, batch: int = 1
) -> int:
    """Return the most tokens of a sequence, up to ``max_len``, whose caches fit into ``budget_bytes``.

    Args:
        make: returns an empty cache for so many tokens, such as ``StaticCache`` or ``lambda length: DynamicCache()``.
        shape: of the model.
        budget_bytes: memory for the caches of all layers.
        max_len: longest sequence that the model takes.
        batch: sequences.

    Raises:
        ArgumentError: not even one token fits.

    Example:
        >>> from regard.modules import StaticCache
        >>> longest_context(
        ...     StaticCache, CacheShape(num_layers=12, num_kv_heads=12, head_dim=64), 2**30, max_len=100_000
        ... )
        14563
    """

    def fits(length: int) -> bool:
        return cache_bytes(make(length), shape, length, batch=batch) <= budget_bytes

    if max_len < 1 or not fits(1):
        raise ArgumentError(
            f"The budget must have room for a token, got {budget_bytes} bytes where one takes "
            f"{cache_bytes(make(1), shape, 1, batch=batch)}; give more memory or take a smaller batch."
        )
    known, beyond = 1, max_len + 1
    while beyond - known > 1:
        middle = (known + beyond) // 2
        known, beyond = (middle, beyond) if fits(middle) else (known, middle)
    return known
