"""One file per law. ``RULES`` ranks them: of several that are broken, the first is most likely the cause."""

from regard.conformance.rule import Rule
from regard.conformance.rules.causality import Causality
from regard.conformance.rules.determinism import Determinism
from regard.conformance.rules.dropout import Dropout

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    Dropout(),
    Determinism(),
    Causality(),
)
"""Every rule, the most specific causes first."""
