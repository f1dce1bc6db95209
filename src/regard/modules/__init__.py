"""Layers: attention with its projections, and what stands around it in a network.

Each layer is told its sizes, never a config. This room may import functional and records; it must not import
``models`` or anything above.
"""

from regard.modules.additive import AdditiveAttention
from regard.modules.block import ResidualAttention
from regard.modules.cache import (
    Attended,
    CacheShape,
    CacheStack,
    CrossAttentionCache,
    DynamicCache,
    Int8Cache,
    KeyValueCache,
    PrefixCache,
    SlidingWindowCache,
    StaticCache,
    cache_bytes,
    longest_context,
)
from regard.modules.decoder_block import DecoderBlock
from regard.modules.dropout import FastDropout
from regard.modules.feed_forward import FeedForward
from regard.modules.from_torch import from_torch
from regard.modules.linear import Linear
from regard.modules.multi_head import MultiHeadAttention
from regard.modules.norms import make_norm
from regard.modules.positions import LearnedPositions
from regard.modules.recurrent import RecurrentLayers
from regard.modules.reversible_norm import ReversibleNorm
from regard.modules.sinusoidal import SinusoidalPositions

__all__ = [
    "AdditiveAttention",
    "Attended",
    "CacheShape",
    "CacheStack",
    "CrossAttentionCache",
    "DecoderBlock",
    "DynamicCache",
    "FastDropout",
    "FeedForward",
    "Int8Cache",
    "KeyValueCache",
    "LearnedPositions",
    "Linear",
    "MultiHeadAttention",
    "PrefixCache",
    "RecurrentLayers",
    "ResidualAttention",
    "ReversibleNorm",
    "SinusoidalPositions",
    "SlidingWindowCache",
    "StaticCache",
    "cache_bytes",
    "from_torch",
    "longest_context",
    "make_norm",
]
