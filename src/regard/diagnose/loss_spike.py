"""Loss spikes: training loses what it had learned."""

import numpy as np

from regard.diagnose.curves import rolling_median, step_curve
from regard.diagnose.rule import Found, found
from regard.records import Evidence, Run, Severity

__all__ = ["LossSpike"]

_WINDOW = 20
_LOST = 0.5
_LEARNED = 0.25


class LossSpike:
    """Judges the median loss over 20 consecutive steps, which single hard batches do not move.

    A spike gives back more than half of the fall from the first window to the best one so far, where that fall was at
    least a quarter of the start. If it is so at the end the run has diverged: an error.
    """

    id = "loss_spike"
    title = "Loss spike"
    severity = Severity.ERROR
    states = "The median loss of 20 steps never gives back more than half of what training had gained."
    cause = (
        "A step that was too large: a learning rate too high for this stage, an outlier batch without gradient "
        "clipping, "
        "or attention scores that grew without bound. Entropy collapse often goes before it."
    )
    remedy = (
        "Lower the learning rate, lengthen the warm-up, clip gradients; look at entropy and largest scores just before."
    )
    reference = "Zhai et al. 2023, arXiv:2303.06296; Wortsman et al. 2023, arXiv:2309.14322"

    def judge(self, run: Run) -> list[Found]:
        """Return the worst spike."""
        curve = step_curve(run, "loss", min_steps=2 * _WINDOW).finite
        if len(curve.values) < _WINDOW:
            return []  # nothing but NaN to compare, which loss_not_finite reports
        medians = rolling_median(curve.values, _WINDOW)
        best = np.minimum.accumulate(medians)
        gained = medians[0] - best
        lost = np.where(gained >= _LEARNED * medians[0], (medians - best) / np.maximum(gained, 1e-12), 0.0)
        worst = int(lost.argmax())
        if lost[worst] <= _LOST:
            return []
        step = int(curve.steps[worst + _WINDOW - 1])
        stays = bool(lost[-1] > _LOST)
        note = (
            f"share of the gain given back; the median of 20 steps rose from {best[worst]:.3g} to {medians[worst]:.3g}"
        )
        return [
            found(
                self,
                severity=Severity.ERROR if stays else Severity.WARNING,
                title=f"The loss rose again and {'did not come back' if stays else 'came back'}: worst at step {step}",
                strength=min(1.0, float(lost[worst])),
                evidence=[
                    Evidence(
                        source="events",
                        statistic="loss",
                        value=float(lost[worst]),
                        threshold=_LOST,
                        step=step,
                        note=note,
                    )
                ],
            )
        ]
