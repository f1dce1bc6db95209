"""Layers: attention with its projections, and what stands around it in a network.

Each layer is told its sizes, never a config. This room may import functional and records; it must not import
``models`` or anything above.
"""

from regard.modules.additive import AdditiveAttention
from regard.modules.block import ResidualAttention
from regard.modules.dropout import FastDropout
from regard.modules.feed_forward import FeedForward
from regard.modules.from_torch import from_torch
from regard.modules.multi_head import MultiHeadAttention
from regard.modules.positions import LearnedPositions
from regard.modules.recurrent import RecurrentLayers

__all__ = [
    "AdditiveAttention",
    "FastDropout",
    "FeedForward",
    "LearnedPositions",
    "MultiHeadAttention",
    "RecurrentLayers",
    "ResidualAttention",
    "from_torch",
]
