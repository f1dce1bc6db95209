"""The mathematics: attention, masks, positions, scoring, statistics.

``reference`` is the float64-capable oracle and ``impl`` holds the backends. This room may import ``regard._errors`` and
torch, and nothing else of regard.
"""

from regard.functional import patterns
from regard.functional.attention import IMPLEMENTATIONS, attention, selected_impl
from regard.functional.columns import column_statistics, received_mass
from regard.functional.definitions import COLUMN_STATISTICS, ROW_STATISTICS, Definition, kernel_statistics
from regard.functional.given_scores import column_statistics_of_scores, statistics_of_scores
from regard.functional.impl.native_linear import linear
from regard.functional.impl.native_region import native_trains
from regard.functional.masks import (
    as_bias,
    causal_mask,
    combine,
    document_mask,
    keep_from_attention_mask,
    keep_from_padding,
    num_allowed_keys,
    prefix_mask,
    sliding_window_mask,
)
from regard.functional.packed import packed_attention
from regard.functional.pattern_error import PatternError, pattern_error
from regard.functional.patterns import Pattern
from regard.functional.positions import alibi_bias, alibi_slopes, apply_rotary, rotary_tables, sinusoidal
from regard.functional.roles import RoleEffects, role_effects
from regard.functional.scoring import additive, additive_attention, cosine, dot, general, qk_norm
from regard.functional.similarity import head_similarity
from regard.functional.statistics import RowStatistics, key_mass, row_statistics
from regard.functional.weights import attention_weights

__all__ = [
    "COLUMN_STATISTICS",
    "IMPLEMENTATIONS",
    "ROW_STATISTICS",
    "Definition",
    "Pattern",
    "PatternError",
    "RoleEffects",
    "RowStatistics",
    "additive",
    "additive_attention",
    "alibi_bias",
    "alibi_slopes",
    "apply_rotary",
    "as_bias",
    "attention",
    "attention_weights",
    "causal_mask",
    "column_statistics",
    "column_statistics_of_scores",
    "combine",
    "cosine",
    "document_mask",
    "dot",
    "general",
    "head_similarity",
    "keep_from_attention_mask",
    "keep_from_padding",
    "kernel_statistics",
    "key_mass",
    "linear",
    "native_trains",
    "num_allowed_keys",
    "packed_attention",
    "pattern_error",
    "patterns",
    "prefix_mask",
    "qk_norm",
    "received_mass",
    "role_effects",
    "rotary_tables",
    "row_statistics",
    "selected_impl",
    "sinusoidal",
    "sliding_window_mask",
    "statistics_of_scores",
]
