"""Entropy collapse: a head that spread its attention comes to look at one key and stays there."""

from collections import Counter

from regard.diagnose.rule import Found, found
from regard.diagnose.trends import HeadTrend, Limit, head_trends
from regard.records import Run, Severity

__all__ = ["EntropyCollapse"]

_NEAR_ZERO = Limit(level=0.1, above=False)
_FALL = 0.5
_LAYER_SHARE = 0.5


class EntropyCollapse:
    """Judges ``normalized_entropy`` of each head against 0.1 and against its own start.

    The literature names the phenomenon, entropy near zero together with an unstable loss, but no number. This rule's
    are: below 0.1 (on 100 keys, as if fewer than two were looked at), less than half of the head's own start, and so
    in at least nine of ten steps of the last tenth. Half of the heads of one layer make it an error.
    """

    id = "entropy_collapse"
    title = "Entropy collapse"
    severity = Severity.ERROR
    states = "No head's normalized entropy falls below 0.1 and below half of its own start, and stays there."
    cause = (
        "Scores have grown until the softmax is almost one-hot: each query copies one token, and little gradient "
        "reaches "
        "queries and keys to undo it. Large query and key weights, a high learning rate or too short a warm-up lead "
        "there."
    )
    remedy = (
        "Lower the learning rate of the query and key projections or lengthen the warm-up; if it comes back, bound the "
        "scores: QK-norm, σReparam, QK-clip or a logit soft-cap."
    )
    reference = (
        "Zhai et al. 2023, Stabilizing Transformer Training by Preventing Attention Entropy Collapse, arXiv:2303.06296"
    )

    def judge(self, run: Run) -> list[Found]:
        """Return heads that collapsed while training, and apart from them those that were sharp from the start."""
        trends = head_trends(run, "normalized_entropy", _NEAR_ZERO)
        low = [trend for trend in trends if trend.stays]
        fell = [trend for trend in low if not trend.was_so_from_the_start and trend.last < _FALL * trend.first]
        sharp = [trend for trend in low if trend not in fell]
        return [*self._collapsed(fell, trends), *self._sharp(sharp, len(trends))]

    def _collapsed(self, fell: list[HeadTrend], trends: list[HeadTrend]) -> list[Found]:
        if not fell:
            return []
        of_layer, fell_in_layer = Counter(trend.layer for trend in trends), Counter(trend.layer for trend in fell)
        whole = [layer for layer, count in fell_in_layer.items() if count >= _LAYER_SHARE * of_layer[layer]]
        title = f"{len(fell)} of {len(trends)} heads lost the spread of their attention during training"
        if whole:
            title += f", at least half of the heads of {whole[0]}"
        return [
            found(
                self,
                severity=Severity.ERROR if whole else Severity.WARNING,
                title=title,
                strength=len(fell) / len(trends),
                where=[trend.place for trend in fell],
                evidence=[trend.evidence() for trend in fell],
            )
        ]

    def _sharp(self, sharp: list[HeadTrend], num_heads: int) -> list[Found]:
        if not sharp:
            return []
        return [
            found(
                self,
                severity=Severity.INFO,
                title=f"{len(sharp)} of {num_heads} heads look at about one key, and nearly did so from the start",
                strength=len(sharp) / num_heads,
                where=[trend.place for trend in sharp],
                evidence=[trend.evidence() for trend in sharp],
                cause=(
                    "The weights that training began with already look this way: such heads copy a fixed position or "
                    "token."
                ),
                remedy="Nothing to repair: this is no collapse. Watch them if the loss is unstable.",
            )
        ]
