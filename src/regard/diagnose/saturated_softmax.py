"""Saturated softmax: weights so close to one-hot that the gradient no longer reaches queries and keys."""

from regard.diagnose.rule import Found, NotJudgedError, found
from regard.diagnose.trends import HeadTrend, Limit, head_trends, recorded_statistics
from regard.records import Run, Severity

__all__ = ["SaturatedSoftmax"]

_LIMITS = {
    "saturated_share": Limit(level=0.5, above=True),
    "collision": Limit(level=0.95, above=True),
    "max_weight": Limit(level=0.95, above=True),
}
_MEANING = {
    "saturated_share": "share of rows with a weight above 0.99",
    "collision": "sum of squared weights; one minus it is the gradient that the softmax lets through",
    "max_weight": "largest weight, mean over rows",
}


class SaturatedSoftmax:
    """Judges the first of ``saturated_share``, ``collision`` and ``max_weight`` that was recorded.

    The Jacobian of the softmax is diag(p) − p pᵀ and its trace 1 − Σp²: a one-hot row passes no gradient. Saturated
    means that more than half of the rows have a weight above 0.99, or that less than 0.05 of the trace is left.
    """

    id = "saturated_softmax"
    title = "Saturated softmax"
    severity = Severity.WARNING
    states = "In no head do more than half of the rows put over 0.99 on one key (or is Σp² above 0.95)."
    cause = (
        "Scores are large against the softmax's scale, so its Jacobian diag(p) − p pᵀ is almost zero and queries and "
        "keys "
        "stop learning. A wrong scale, large query and key norms or a temperature near zero do this."
    )
    remedy = (
        "Check that scores are scaled by 1/√head_dim; lower the learning rate of queries and keys; bound the scores "
        "with "
        "QK-norm, QK-clip or a logit soft-cap."
    )
    reference = "Dehghani et al. 2023, arXiv:2302.05442; Wortsman et al. 2023, arXiv:2309.14322"

    def judge(self, run: Run) -> list[Found]:
        """Return heads that saturated while training, and apart from them those that were so from the start."""
        recorded = recorded_statistics(run)
        statistic = next((name for name in _LIMITS if name in recorded), None)
        if statistic is None:
            raise NotJudgedError(f"none of {', '.join(_LIMITS)} was recorded; name one in what watch records")
        trends = head_trends(run, statistic, _LIMITS[statistic])
        saturated = [trend for trend in trends if trend.stays]
        became = [trend for trend in saturated if not trend.was_so_from_the_start]
        born = [trend for trend in saturated if trend.was_so_from_the_start]
        return [
            *self._heads(became, len(trends), Severity.WARNING, "saturated during training"),
            *self._heads(born, len(trends), Severity.INFO, "were saturated from the start"),
        ]

    def _heads(self, heads: list[HeadTrend], num_heads: int, severity: Severity, what: str) -> list[Found]:
        if not heads:
            return []
        return [
            found(
                self,
                severity=severity,
                title=f"{len(heads)} of {num_heads} heads {what}: little gradient reaches their queries and keys",
                strength=len(heads) / num_heads,
                where=[trend.place for trend in heads],
                evidence=[trend.evidence(_MEANING[trend.statistic]) for trend in heads],
            )
        ]
