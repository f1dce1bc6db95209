"""Rules over plain numbers: why is an output not finite, and what will make one so?"""

import math
from dataclasses import dataclass, fields

from regard._errors import ArgumentError

__all__ = ["FAULTS", "WARNINGS", "Evidence", "GuardLimits", "Reading", "Verdict", "fault_of", "warnings_of"]

FAULTS = {
    "score_overflow": "query·key is larger than the largest number of the type that holds it",
    "empty_row": "a row may attend to nothing, and the softmax of -inf alone is NaN",
    "inf_minus_inf": "an infinite query, key or bias meets another infinity in the softmax",
    "upstream": "query, key or value hold NaN, or the value an infinity, before attention begins",
    "parameter": "a parameter is not finite, as a bad optimizer step leaves it",
    "gradient": "a gradient of query, key or value is not finite, and the optimizer is about to take its step",
    "unexplained": "the output is not finite, and nothing that was seen says why",
}
"""Causes of values that are not finite."""
WARNINGS = {
    "headroom": "query·key comes near the largest number of the type that holds it",
    "growing_scores": "the largest score grows without end",
    "saturated_softmax": "nearly all rows put all their weight on one key, through which no gradient comes back",
}
"""What is told before a value is not finite."""


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """Where warnings begin.

    Attributes:
        headroom: share of the type's largest number that query·key may reach while it grows towards it; twice the share
            is told without growth.
        max_score: largest |score| below which growth is nobody's concern, the τ = 100 of QK-Clip.
        diverged: largest |score| that is told without growth: runs that came there diverged.
        horizon: steps to look ahead: growth is told that doubles a score, or uses up the headroom, within them.
        jacobian: 1 − Σ p², the trace of the softmax's Jacobian, below which a row is saturated.
        saturated_share: share of the rows that must be so.
        saturated_score: largest |score| below which a sharp head is taken for one that means to be sharp.

    References:
        τ and its use: Kimi Team, Kimi K2, arXiv:2507.20534, section 2.1. Scores of runs that diverge: Wortsman et al.,
        Small-scale proxies for large-scale Transformer training instabilities, arXiv:2309.14322, section 3.1.
    """

    headroom: float = 0.25
    max_score: float = 100.0
    diverged: float = 1e4
    horizon: int = 500
    jacobian: float = 1e-4
    saturated_share: float = 0.9
    saturated_score: float = 50.0

    def __post_init__(self) -> None:
        wrong = {field.name: getattr(self, field.name) for field in fields(self) if not getattr(self, field.name) > 0}
        if wrong:
            raise ArgumentError(f"GuardLimits must be positive numbers, got {wrong}.")
        above = [name for name in ("headroom", "saturated_share") if getattr(self, name) > 1]
        if above:
            raise ArgumentError(f"A share must be at most 1, got {above[0]}={getattr(self, above[0])}.")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a head whose output is not finite.

    Attributes:
        nan: which of ``query``, ``key`` and ``value`` hold NaN.
        infinite: which of them hold an infinity.
        product: largest |query·key|, or None where query and key were not seen or are not finite.
        limit: largest number of the type that holds query·key.
        bias: ``"NaN"`` or ``"inf"`` where a bias brings it to the scores, else None.
        empty_rows: rows that may attend to nothing.
        num_bad: elements of query, key and value that are not finite.
    """

    nan: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()
    product: float | None = None
    limit: float
    bias: str | None = None
    empty_rows: int = 0
    num_bad: int = 0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a finite call tells of a head.

    Attributes:
        product: largest |query·key| that was found, or None where it was not seen.
        limit: largest number of the type that holds query·key.
        score: largest |score| that was found.
        growth: factor by which ``score`` grows each step, as the last observations have it; 1 where they do not agree.
        saturated: share of the rows looked at whose softmax is saturated and no sink.
    """

    product: float | None
    limit: float
    score: float
    growth: float
    saturated: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A cause and the number that shows it.

    Attributes:
        cause: a name of ``FAULTS`` or ``WARNINGS``.
        value: the evidence.
        limit: what it must stay below (of ``empty_row``, ``upstream`` and ``inf_minus_inf``: 0).
    """

    cause: str
    value: float
    limit: float


def fault_of(evidence: Evidence) -> Verdict:
    """Return why a head's output is not finite.

    What came in damaged is no fault of this attention, so it goes first; an overflow goes before an empty row, because
    a row of overflowed negative products looks empty.
    """
    if evidence.nan or "value" in evidence.infinite:
        return Verdict(cause="upstream", value=float(evidence.num_bad), limit=0.0)
    if evidence.infinite:
        return Verdict(cause="inf_minus_inf", value=float(evidence.num_bad), limit=0.0)
    if evidence.product is not None and evidence.product > evidence.limit:
        return Verdict(cause="score_overflow", value=evidence.product, limit=evidence.limit)
    if evidence.bias is not None:
        return Verdict(cause="inf_minus_inf", value=float(evidence.bias), limit=0.0)
    if evidence.empty_rows:
        return Verdict(cause="empty_row", value=float(evidence.empty_rows), limit=0.0)
    return Verdict(cause="unexplained", value=float("nan"), limit=evidence.limit)


def warnings_of(reading: Reading, limits: GuardLimits) -> list[Verdict]:
    """Return what is about to go wrong in a head."""
    found = []
    if _nears_the_end(reading, limits):
        assert reading.product is not None, "what nears an end was seen"
        found.append(Verdict(cause="headroom", value=reading.product, limit=reading.limit))
    doubles = math.log(reading.growth) * limits.horizon >= math.log(2)
    if reading.score > limits.diverged:
        found.append(Verdict(cause="growing_scores", value=reading.score, limit=limits.diverged))
    elif reading.score > limits.max_score and doubles:
        found.append(Verdict(cause="growing_scores", value=reading.score, limit=limits.max_score))
    if reading.saturated >= limits.saturated_share and reading.score > limits.saturated_score:
        found.append(Verdict(cause="saturated_softmax", value=reading.saturated, limit=limits.saturated_share))
    return found


def _nears_the_end(reading: Reading, limits: GuardLimits) -> bool:
    if reading.product is None or reading.product <= limits.headroom * reading.limit:
        return False
    if reading.product > 2 * limits.headroom * reading.limit:
        return True
    rise = math.log(reading.growth) * limits.horizon
    return rise > 0 and rise + math.log(reading.product) >= math.log(reading.limit)
