"""What each statistic is: formula, unit, range, and the dense computation that it is tested against."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import reference
from regard.functional.impl.completion import bases

__all__ = [
    "COLUMN_STATISTICS",
    "ROW_STATISTICS",
    "VALUE_STATISTICS",
    "Definition",
    "check_names",
    "kernel_statistics",
]

VALUE_STATISTICS = frozenset({"contribution", "first_contribution"})
"""Statistics of a query row that weigh the values and so need them."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a statistic is.

    Attributes:
        formula: over the keys j of row i; of columns, over the weight r_j that key j receives.
        unit: of the value.
        range: of the value, n the number of keys that the row may see.
        reference: the dense computation from masked scores, for tests and small inputs.
        needs_value: whether it weighs the values; ``reference`` then takes them as ``value``.
    """

    formula: str
    unit: str
    range: str
    reference: Callable[..., Tensor]
    needs_value: bool = False


def _define(name: str, formula: str, unit: str, bounds: str) -> Definition:
    return Definition(
        formula=formula,
        unit=unit,
        range=bounds,
        reference=reference.STATISTICS[name],
        needs_value=name in VALUE_STATISTICS,
    )


ROW_STATISTICS: Mapping[str, Definition] = {
    name: _define(name, formula, unit, bounds)
    for name, formula, unit, bounds in (
        ("entropy", "-sum p_ij log p_ij", "nats", "0 to log n"),
        ("normalized_entropy", "entropy / log n; NaN for n = 1", "1", "0 to 1"),
        ("effective_keys", "exp(entropy)", "keys", "1 to n"),
        ("collision", "sum p_ij^2", "1", "1/n to 1"),
        ("max_weight", "max p_ij", "1", "1/n to 1"),
        ("max_score", "max s_ij", "1", "any"),
        ("min_score", "min s_ij over visible keys", "1", "any"),
        ("score_spread", "standard deviation of s_ij over visible keys, each counted alike", "1", "from 0"),
        ("headroom", "log2(largest number of the query's type / max |s_ij|)", "bits", "any; below 0 overflows"),
        ("first_mass", "p_i0", "1", "0 to 1"),
        ("self_mass", "p_ii; NaN where the row has no own key", "1", "0 to 1"),
        ("previous_mass", "p_i,i-1; NaN where there is no such key", "1", "0 to 1"),
        ("distance", "sum p_ij |i - j|", "tokens", "0 to kv_len - 1"),
        ("expected_position", "sum p_ij j", "tokens", "0 to kv_len - 1"),
        ("saturated_share", "1 if max p_ij > 0.99 else 0; its mean is the share", "1", "0 or 1"),
        ("contribution", "sum p_ij |v_j|", "1", "from 0"),
        ("first_contribution", "p_i0 |v_0| / sum p_ij |v_j|; NaN where all v_j are 0", "1", "0 to 1"),
    )
}
"""Statistics of a query row, NaN for a row that may see no key."""


COLUMN_STATISTICS: Mapping[str, Definition] = {
    name: Definition(formula=formula, unit="1", range=bounds, reference=reference.COLUMN_STATISTICS[name])
    for name, formula, bounds in (
        (
            "received_gini",
            "Gini coefficient of r_j / number of counted queries that may see j, over the keys that one may see",
            "0 to 1 - 1/n",
        ),
        (
            "heavy_hitter_mass",
            "share of sum r_j on the tenth of the n keys (rounded up) with most",
            "ceil(n/10)/n to 1",
        ),
    )
}
"""Statistics of the columns of one head in one sequence, NaN where no counted query may see a key.

``reference`` also takes ``query_mask``, bool (batch, q_len).
"""


def kernel_statistics(names: Iterable[str]) -> list[str]:
    """Return what a kernel has to sum up with its output for the statistics of rows among ``names``.

    A kernel for which the lengths of the values would be work of its own leaves ``VALUE_STATISTICS`` out.
    """
    return sorted(bases(name for name in names if name in ROW_STATISTICS))


def check_names(statistics: Sequence[str], has_value: bool) -> None:
    """Raise ``ArgumentError`` for a name that is no statistic of a row, or one of values that are not given."""
    unknown = [name for name in statistics if name not in ROW_STATISTICS]
    if unknown:
        raise ArgumentError(f"statistics must be names out of {', '.join(ROW_STATISTICS)}; got {unknown}.")
    of_values = [name for name in statistics if name in VALUE_STATISTICS]
    if of_values and not has_value:
        raise ArgumentError(f"{', '.join(of_values)} must be given the values, got none; pass them as value=.")
