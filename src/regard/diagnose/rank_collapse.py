"""Rank collapse: the tokens of a sequence have become alike, so that a layer cannot tell them apart."""

from regard.diagnose.rule import Found, found
from regard.diagnose.trends import Limit, head_trends
from regard.records import Run, Severity

__all__ = ["RankCollapse"]

_ALIKE = Limit(level=0.01, above=False)


class RankCollapse:
    """Judges ``residual_diversity``: how much of the residual stream that enters a block differs between tokens.

    Attention averages tokens. Without skip connections their differences die out doubly exponentially with depth; with
    them trained models keep several tenths. Below a hundredth, what a layer sees is one vector many times over.
    """

    id = "rank_collapse"
    title = "Rank collapse"
    severity = Severity.WARNING
    states = "More than a hundredth of each layer's input differs between the tokens of a sequence."
    cause = (
        "Attention averages the tokens, and nothing keeps them apart: there is no skip connection around it, or its "
        "branch has grown so large that the skip does not count. Norms alone do not help: they keep the length of the "
        "vectors, not their differences."
    )
    remedy = (
        "Put attention inside a residual connection; in a deep stack begin with small output projections, or scale the "
        "branches by 1/√depth."
    )
    reference = "Dong et al. 2021, Attention is not all you need, arXiv:2103.03404; Noci et al. 2022, arXiv:2206.03126"

    def judge(self, run: Run) -> list[Found]:
        """Return the layers whose input has collapsed, the first of them first."""
        # One value for all heads of a layer: the first head stands for it.
        trends = [trend for trend in head_trends(run, "residual_diversity", _ALIKE, min_steps=1) if trend.head == 0]
        collapsed = [trend for trend in trends if trend.stays]
        if not collapsed:
            return []
        least = min(trend.last for trend in collapsed)
        return [
            found(
                self,
                severity=Severity.WARNING,
                title=f"The tokens entering {len(collapsed)} of {len(trends)} layers are alike to {least:.1e}",
                strength=len(collapsed) / len(trends),
                where=[trend.layer for trend in collapsed],
                evidence=[
                    trend.evidence("share of the layer's input that differs between tokens") for trend in collapsed
                ],
            )
        ]
