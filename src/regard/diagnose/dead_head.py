"""Dead heads: heads whose output is so small that the layer could do without them."""

from regard.diagnose.rule import Found, NotJudgedError, found
from regard.diagnose.trends import HeadTrend, Limit, head_trends
from regard.records import Run, Severity

__all__ = ["DeadHead"]

_TINY = Limit(level=0.1, above=False)


class DeadHead:
    """Judges ``output_norm`` of each head divided by the mean over the heads of its layer.

    The threshold of 0.1 is stricter than what Sandoval-Segura et al. remove without loss, so that a head named here
    contributes next to nothing. A head that died while training is a warning, one that came so is a label.
    """

    id = "dead_head"
    title = "Dead head"
    severity = Severity.WARNING
    states = "No head's output norm falls below a tenth of the mean of its layer, and stays there."
    cause = (
        "The head attends where the values are almost zero, often on the first token or a separator, or its value "
        "projection has shrunk under weight decay: it adds next to nothing to the layer."
    )
    remedy = (
        "Compare accuracy without these heads; prune them if it holds, for speed. If they died early in training, "
        "lower "
        "the learning rate or the weight decay of the value projection, or gate the heads."
    )
    reference = "Sandoval-Segura et al. 2025, Identifying inactive attention heads, arXiv:2504.03889"

    def judge(self, run: Run) -> list[Found]:
        """Return heads that died while training, and apart from them those that were silent from the start."""
        trends = head_trends(run, "output_norm", _TINY, relative_to_layer=True)
        if all(trend.head == 0 for trend in trends):
            raise NotJudgedError("every layer has one head, so there is no other head to compare with")
        silent = [trend for trend in trends if trend.stays]
        died = [trend for trend in silent if not trend.was_so_from_the_start]
        born = [trend for trend in silent if trend.was_so_from_the_start]
        return [
            *self._heads(died, len(trends), Severity.WARNING, "fell silent during training"),
            *self._heads(born, len(trends), Severity.INFO, "were silent from the start"),
        ]

    def _heads(self, heads: list[HeadTrend], num_heads: int, severity: Severity, what: str) -> list[Found]:
        if not heads:
            return []
        title = f"{len(heads)} of {num_heads} heads {what}: their output is below a tenth of their layer's mean"
        return [
            found(
                self,
                severity=severity,
                title=title,
                strength=len(heads) / num_heads,
                where=[trend.place for trend in heads],
                evidence=[trend.evidence("share of the layer's mean output norm") for trend in heads],
            )
        ]
