"""Overfitting: the validation loss rises while the training loss still falls."""

from typing import Any

import numpy as np

from regard.diagnose.curves import step_curve
from regard.diagnose.rule import Found, NotJudgedError, found
from regard.records import Evidence, Run, Severity

__all__ = ["Overfitting"]

_RISE = 1.1
_DROP = 0.01


class Overfitting:
    """Judges the ``validation`` events: the last loss against the best one before it.

    A rise by more than a tenth while the training loss fell is a label if macro F1 (or accuracy) held, since the model
    only grows too sure of itself, and a warning if that fell by more than 0.01 too.
    """

    id = "overfitting"
    title = "Overfitting"
    severity = Severity.WARNING
    states = "The validation loss does not end more than a tenth above its best while the training loss falls."
    cause = "The model keeps fitting the training documents after it has stopped to learn what carries over to others."
    remedy = (
        "Stop at the best epoch, train fewer epochs, lower the learning rate, or add dropout, weight decay or data."
    )
    reference = "Prechelt 1998, Early Stopping - But When?; for calibration Guo et al. 2017, arXiv:1706.04599"

    def judge(self, run: Run) -> list[Found]:
        """Return the rise from the best validation to the last."""
        events = [event for event in run.events("validation") if event.get("loss") is not None]
        if len(events) < 2:
            raise NotJudgedError(f"overfitting needs at least 2 validations with a loss, got {len(events)}")
        best, last = min(events[:-1], key=lambda event: float(event["loss"])), events[-1]
        if last["loss"] <= _RISE * best["loss"] or not _training_fell(run, best["step"], last["step"]):
            return []
        name = "macro_f1" if _has(events, "macro_f1") else "accuracy"
        dropped = _has(events, name) and max(event[name] for event in events) - last[name] > _DROP
        evidence = [
            Evidence(
                source="events",
                statistic="validation loss",
                value=last["loss"],
                threshold=_RISE * best["loss"],
                step=last["step"],
                note=f"the best was {best['loss']:.3g} at step {best['step']}",
            )
        ]
        if _has(events, name):
            top = max(events, key=lambda event: float(event[name]))
            note = f"the best was {top[name]:.3f} at step {top['step']}"
            evidence.append(
                Evidence(
                    source="events", statistic=f"validation {name}", value=last[name], step=last["step"], note=note
                )
            )
        title = f"The validation loss rose from {best['loss']:.3g} to {last['loss']:.3g} while the training loss fell"
        return [
            found(
                self,
                severity=Severity.WARNING if dropped else Severity.INFO,
                title=title if dropped else f"{title}; the predictions held",
                strength=min(1.0, last["loss"] / best["loss"] - 1),
                evidence=evidence,
            )
        ]


def _has(events: list[dict[str, Any]], name: str) -> bool:
    return all(event.get(name) is not None for event in events)


def _training_fell(run: Run, best_step: int, last_step: int) -> bool:
    """Compare the mean training loss over two stretches of one length, up to either validation."""
    curve = step_curve(run, "loss").finite
    length = last_step - best_step
    before = curve.values[(curve.steps > best_step - length) & (curve.steps <= best_step)]
    after = curve.values[(curve.steps > best_step) & (curve.steps <= last_step)]
    return bool(len(before) and len(after) and np.mean(after) < np.mean(before))
