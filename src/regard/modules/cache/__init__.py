"""Caches of keys and values: what a causal layer has seen already, so that a step computes its own tokens alone."""

from regard.modules.cache.accountant import CacheShape, cache_bytes, longest_context
from regard.modules.cache.cross import CrossAttentionCache
from regard.modules.cache.prefix import PrefixCache
from regard.modules.cache.protocol import Attended, KeyValueCache
from regard.modules.cache.stack import CacheStack
from regard.modules.cache.whole import DynamicCache, Int8Cache, StaticCache
from regard.modules.cache.window import SlidingWindowCache

__all__ = [
    "Attended",
    "CacheShape",
    "CacheStack",
    "CrossAttentionCache",
    "DynamicCache",
    "Int8Cache",
    "KeyValueCache",
    "PrefixCache",
    "SlidingWindowCache",
    "StaticCache",
    "cache_bytes",
    "longest_context",
]
