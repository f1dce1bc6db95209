"""How far the mix of labels differs between two splits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from regard._errors import ArgumentError

__all__ = ["LabelShift", "label_shift"]


@dataclass(frozen=True, kw_only=True)
class LabelShift:
    """Distance between two label distributions.

    Attributes:
        psi: population stability index, 0 upward; below 0.1 is read as stable, from 0.25 as a strong shift.
        chi_square: Pearson's statistic of the two-row table of counts, 0 upward.
        p_value: probability of a statistic at least as large if both splits were drawn from one mix, in [0, 1].
    """

    psi: float
    chi_square: float
    p_value: float


def label_shift(one: Mapping[str, int], other: Mapping[str, int]) -> LabelShift:
    """Compare two sets of label counts.

    The stability index adds half a document per label, so that a label absent on one side stays finite.

    Args:
        one: documents per label in the first split.
        other: documents per label in the second.

    Returns:
        The shift; all of it 0 with a p-value of 1 when there is only one label.

    Raises:
        ArgumentError: a split holds no document.

    References:
        Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.4.4-5, for the tail of chi-square.
        Siddiqi, "Credit Risk Scorecards" (2006), for the stability index and its limits.
    """
    labels = sorted({*one, *other})
    num_one, num_other = sum(one.values()), sum(other.values())
    if not num_one or not num_other:
        raise ArgumentError(f"Each split must hold a document, got {num_one} and {num_other}.")
    psi = chi_square = 0.0
    for label in labels:
        first, second = one.get(label, 0), other.get(label, 0)
        share_one = (first + 0.5) / (num_one + 0.5 * len(labels))
        share_other = (second + 0.5) / (num_other + 0.5 * len(labels))
        psi += (share_one - share_other) * math.log(share_one / share_other)
        expected = (first + second) / (num_one + num_other)
        for seen, total in ((first, num_one), (second, num_other)):
            chi_square += (seen - expected * total) ** 2 / (expected * total) if expected else 0.0
    return LabelShift(psi=psi, chi_square=chi_square, p_value=_upper_tail(chi_square, len(labels) - 1))


def _upper_tail(chi_square: float, degrees: int) -> float:
    """Return P(X >= chi_square) for whole ``degrees``, as the finite sum that it then is."""
    if degrees < 1 or chi_square == 0:
        return 1.0
    half = chi_square / 2
    odd = degrees % 2
    tail = math.erfc(math.sqrt(half)) if odd else 0.0
    for number in range(degrees // 2):
        power = number + odd / 2
        tail += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(tail, 1.0)
