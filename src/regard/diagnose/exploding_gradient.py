"""Exploding gradients: the gradient norm grows by more than an order of magnitude and keeps growing."""

import numpy as np

from regard.diagnose.curves import rolling_median, step_curve
from regard.diagnose.rule import Found, found
from regard.records import Evidence, Run, Severity

__all__ = ["ExplodingGradient"]

_WINDOW = 20
_FACTOR = 20.0


class ExplodingGradient:
    """Judges the median gradient norm over 20 consecutive steps, before clipping, against that of the first 20.

    Single large gradients are ordinary, since hard batches have them and clipping takes them; a median 20 times that of
    the start is not.
    """

    id = "exploding_gradient"
    title = "Exploding gradient"
    severity = Severity.WARNING
    states = "The median gradient norm of 20 steps stays below 20 times that of the first 20 steps."
    cause = (
        "The loss surface has become steep: a learning rate too high, missing normalisation or residual scaling, or "
        "growing scores."
    )
    remedy = "Lower the learning rate, lengthen the warm-up, clip gradients, or use pre-norm residual blocks."
    reference = "Pascanu et al. 2013, arXiv:1211.5063; Xiong et al. 2020, arXiv:2002.04745"

    def judge(self, run: Run) -> list[Found]:
        """Return the largest sustained growth."""
        curve = step_curve(run, "grad_norm", min_steps=2 * _WINDOW).finite
        if len(curve.values) < _WINDOW:
            return []  # nothing but NaN to compare, which loss_not_finite reports
        medians = rolling_median(curve.values, _WINDOW)
        growth = medians / max(float(medians[0]), np.finfo(np.float64).tiny)
        beyond = np.flatnonzero(growth > _FACTOR)
        if not len(beyond):
            return []
        worst, since = int(growth.argmax()), int(curve.steps[beyond[0] + _WINDOW - 1])
        note = f"ratio of medians; {medians[0]:.3g} at the start, {medians[worst]:.3g} at its largest"
        return [
            found(
                self,
                severity=Severity.WARNING,
                title=f"The gradient norm grew {growth[worst]:,.0f}-fold, beyond 20-fold from step {since}",
                strength=len(beyond) / len(growth),
                evidence=[
                    Evidence(
                        source="events",
                        statistic="grad_norm",
                        value=float(growth[worst]),
                        threshold=_FACTOR,
                        step=since,
                        note=note,
                    )
                ],
            )
        ]
