"""Padding attended to: weight on keys that are no text, so the mask is missing, inverted or not passed on."""

from regard.diagnose.rule import Found, NotJudgedError, found
from regard.diagnose.trends import recorded_statistics
from regard.records import Evidence, Run, Severity

__all__ = ["PaddingAttended"]

# A mask that is applied gives exactly 0; the room is for float32 rounding where the weight is a difference of sums.
_ROUNDING = 1e-6

_QUERY = """
SELECT layer, head, max(coalesce(maximum, mean)) AS largest, avg(mean) AS mean,
       min(step) FILTER (WHERE coalesce(maximum, mean) > $1) AS since
FROM heads WHERE statistic = 'padding_mass' AND isfinite(mean)
GROUP BY layer, head ORDER BY largest DESC, layer, head
"""


class PaddingAttended:
    """Judges ``padding_mass``: the weight on keys that the model's own input marks as padding must be 0."""

    id = "padding_attended"
    title = "Padding attended to"
    severity = Severity.ERROR
    states = "Every head gives padding a weight of exactly 0 in every step (1e-6 is left for rounding)."
    cause = (
        "The padding mask does not reach this attention call, has the wrong polarity (PyTorch's key_padding_mask marks "
        "padding with True, Hugging Face's attention_mask marks text with 1), or is broadcast over the wrong axis: the "
        "answer for a text depends on what it was batched with."
    )
    remedy = (
        "Pass the mask to the attention call with the polarity that it expects; then the same text alone and padded "
        "agree."
    )
    reference = "Vaswani et al. 2017, section 3.2.3 (masking sets scores to minus infinity), arXiv:1706.03762"

    def judge(self, run: Run) -> list[Found]:
        """Return all heads that gave padding weight in any step."""
        if "padding_mass" not in recorded_statistics(run):
            raise NotJudgedError("statistic 'padding_mass' was not recorded; name it in what watch records")
        rows = run.heads.query(_QUERY, [_ROUNDING])
        heads = list(zip(rows["layer"], rows["head"], rows["largest"], rows["mean"], rows["since"], strict=True))
        attended = [head for head in heads if head[2] > _ROUNDING]
        if not attended:
            self._require_padding(run)
            return []
        return [
            found(
                self,
                severity=Severity.ERROR,
                title=f"{len(attended)} of {len(heads)} heads attend to padding: the mask is not applied there",
                strength=len(attended) / len(heads),
                where=[f"{layer} head {head}" for layer, head, *_ in attended],
                evidence=[
                    Evidence(
                        source="heads",
                        statistic="padding_mass",
                        value=float(largest),
                        threshold=_ROUNDING,
                        step=int(since),
                        layer=str(layer),
                        head=int(head),
                        note=(
                            f"largest weight on padding of any row, first seen at step {since}; {mean:.3g} in the mean"
                        ),
                    )
                    for layer, head, largest, mean, since in attended
                ],
            )
        ]

    def _require_padding(self, run: Run) -> None:
        """Zero weight on padding proves nothing where no batch held padding."""
        shares = [event["padding_share"] for event in run.events("step") if event.get("padding_share") is not None]
        if shares and max(shares) == 0:
            raise NotJudgedError("no batch of this run held padding, so no mask was put to the test")
