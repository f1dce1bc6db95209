"""Attention sinks: heads that park much of their attention on the first token."""

from regard.diagnose.rule import Found, found
from regard.diagnose.trends import Limit, head_trends
from regard.records import Run, Severity

__all__ = ["SinkHead"]

_SINK = Limit(level=0.3, above=True)


class SinkHead:
    """Labels heads whose mean weight on the first key is above 0.3, the threshold of Gu et al.

    Never an alarm: a sink is how most trained heads do nothing when they have nothing to add, and models need it.
    """

    id = "sink_head"
    title = "Sink head"
    severity = Severity.INFO
    states = "A head that puts more than 0.3 of its attention on the first key is labelled a sink."
    cause = (
        "Softmax weights must sum to one, so a head with nothing to add puts them on a token that all queries see and "
        "whose value is small. It emerges in ordinary training and is mostly functional."
    )
    remedy = (
        "Usually nothing. Keep the first tokens if a cache is cut short; if sinks hurt quantisation or streaming, "
        "train "
        "with a learned sink (softmax-one) or gated attention."
    )
    reference = "Gu et al. 2024, arXiv:2410.10781; Xiao et al. 2023, arXiv:2309.17453"

    def judge(self, run: Run) -> list[Found]:
        """Return one label for all sink heads."""
        trends = head_trends(run, "first_mass", _SINK, min_steps=1)
        sinks = [trend for trend in trends if trend.stays]
        if not sinks:
            return []
        grown = sum(not trend.was_so_from_the_start for trend in sinks)
        became = f"; {grown} of them became so during training" if grown else ", as they did from the start"
        return [
            found(
                self,
                severity=Severity.INFO,
                title=(
                    f"{len(sinks)} of {len(trends)} heads put over 30 % of their attention on the first token{became}"
                ),
                strength=len(sinks) / len(trends),
                where=[trend.place for trend in sinks],
                evidence=[trend.evidence() for trend in sinks],
            )
        ]
