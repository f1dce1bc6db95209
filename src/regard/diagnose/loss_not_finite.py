"""Loss or gradient norm that is no longer a number."""

import numpy as np

from regard.diagnose.curves import step_curve
from regard.diagnose.rule import Found, NotJudgedError, found
from regard.records import Evidence, Run, Severity

__all__ = ["LossNotFinite"]


class LossNotFinite:
    """Judges ``loss`` and ``grad_norm`` of every step event: null, NaN and infinity are errors."""

    id = "loss_not_finite"
    title = "Loss is not a number"
    severity = Severity.ERROR
    states = "Loss and gradient norm are finite in every step."
    cause = (
        "An overflow in half precision, a row of attention with every key masked and no rule for it, a logarithm or "
        "division of zero, or a learning rate that threw the weights away."
    )
    remedy = (
        "Look at the step before: its gradient norm and its largest scores. Lower the learning rate or lengthen the "
        "warm-up; use bfloat16 instead of float16; check rows without any key."
    )
    reference = "Micikevicius et al. 2017, Mixed Precision Training, arXiv:1710.03740"

    def judge(self, run: Run) -> list[Found]:
        """Return one finding with the first step at which each became no number."""
        steps = len(step_curve(run, "loss").steps)
        bad: list[Evidence] = []
        for field in ("loss", "grad_norm"):
            bad += self._first_bad(run, field)
        if not bad:
            return []
        first = min(item.step for item in bad if item.step is not None)
        names = " and ".join(item.statistic.replace("grad_norm", "gradient norm") for item in bad)
        count = max(int(item.value or 0) for item in bad)
        return [
            found(
                self,
                severity=Severity.ERROR,
                title=f"The {names} {'is' if len(bad) == 1 else 'are'} not a number from step {first}",
                strength=min(1.0, count / steps),
                evidence=bad,
            )
        ]

    def _first_bad(self, run: Run, field: str) -> list[Evidence]:
        try:
            curve = step_curve(run, field)
        except NotJudgedError:
            if field == "loss":
                raise
            return []
        bad = curve.steps[np.isnan(curve.values)]
        if not len(bad):
            return []
        note = f"number of steps without a finite {field}, of {len(curve.steps)}; the first is step {bad[0]}"
        value = float(len(bad))
        return [
            Evidence(source="events", statistic=field, value=value, threshold=0.0, step=int(bad[0]), note=note),
        ]
