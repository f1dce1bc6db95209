"""One file per law. ``RULES`` ranks them: of several that are broken, the first is most likely the cause."""

from regard.conformance.rule import Rule
from regard.conformance.rules.alibi import Alibi
from regard.conformance.rules.batch import Batch
from regard.conformance.rules.bidirectional import Bidirectional
from regard.conformance.rules.cache import Cache
from regard.conformance.rules.causal_corner import CausalCorner
from regard.conformance.rules.causality import Causality
from regard.conformance.rules.cross_lengths import CrossLengths
from regard.conformance.rules.determinism import Determinism
from regard.conformance.rules.dropout import Dropout
from regard.conformance.rules.dtype_headroom import DtypeHeadroom
from regard.conformance.rules.empty_rows import EmptyRows
from regard.conformance.rules.formula import Formula
from regard.conformance.rules.gradients import Gradients
from regard.conformance.rules.grouped_heads import GroupedHeads
from regard.conformance.rules.head_merge import HeadMerge
from regard.conformance.rules.mask_sense import MaskSense
from regard.conformance.rules.packed import Packed
from regard.conformance.rules.padding import Padding
from regard.conformance.rules.paths import Paths
from regard.conformance.rules.positions import Positions
from regard.conformance.rules.roles import Roles
from regard.conformance.rules.scale import Scale
from regard.conformance.rules.softcap import Softcap
from regard.conformance.rules.softmax import Softmax
from regard.conformance.rules.untouched import Untouched
from regard.conformance.rules.window import Window

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    Dropout(),
    Determinism(),
    Softmax(),
    Scale(),
    MaskSense(),
    Causality(),
    Bidirectional(),
    Window(),
    CausalCorner(),
    GroupedHeads(),
    HeadMerge(),
    Roles(),
    EmptyRows(),
    Softcap(),
    Batch(),
    Positions(),
    Alibi(),
    Padding(),
    Cache(),
    Packed(),
    CrossLengths(),
    Paths(),
    Gradients(),
    DtypeHeadroom(),
    Untouched(),
    Formula(),
)
"""Every rule, the most specific causes first."""
