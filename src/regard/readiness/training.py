"""Hyperparameter tuning and training: was there a search, and did the run go well?"""

from regard.readiness.facts import Facts
from regard.readiness.item import Answer, Item, judged, not_done
from regard.records import Severity, Status

__all__ = ["ITEMS", "SECTION"]

SECTION = "Tuning and training"

# Twice the standard error of an accuracy of 0.97 on a few hundred validation rows.
_DROP = 0.01
_RISE = 0.02  # of a loss, as a share of the best one


def _finished(facts: Facts) -> Answer:
    status, message = facts.info.status, facts.info.message
    told = f"run.json says {status.value!r}" + (f": {message}" if message else "")
    if status is Status.FINISHED:
        return judged(True, told)
    if status is Status.FAILED:
        return judged(False, told)
    return not_done(f"{told}; start the same command again and it goes on")


def _tuned(facts: Facts) -> Answer:
    return not_done("one setting was run; this version of regard does not search over hyperparameters yet")


def _finite(facts: Facts) -> Answer:
    steps = facts.events("step")
    broken = [event.get("step") for event in steps if event.get("loss") is None or event.get("grad_norm") is None]
    if broken:
        return judged(False, f"loss or gradient was not a number in {len(broken)} steps, first at step {broken[0]}")
    return judged(True, f"{len(steps)} steps, loss {steps[0]['loss']:.4f} to {steps[-1]['loss']:.4f}")


def _last_is_best(facts: Facts) -> Answer:
    events = facts.events("validation")
    looks = [event["accuracy"] for event in events if event.get("accuracy") is not None]
    if not looks:
        return _loss_is_best([event["loss"] for event in events if event.get("loss") is not None])
    told = f"{len(looks)} look{'' if len(looks) == 1 else 's'}"
    evidence = f"validation accuracy {looks[-1]:.4f} at the end, at best {max(looks):.4f} in {told}"
    return judged(max(looks) - looks[-1] <= _DROP, f"{evidence}; a drop of at most {_DROP} is noise")


def _loss_is_best(losses: list[float]) -> Answer:
    if not losses:
        return not_done("no look at the validation set has an accuracy or a loss; validate after each epoch")
    evidence = f"validation loss {losses[-1]:.4f} at the end, at best {min(losses):.4f} in {len(losses)} looks"
    return judged(losses[-1] <= (1 + _RISE) * min(losses), f"{evidence}; a rise of at most {_RISE:.0%} is noise")


def _healthy(facts: Facts) -> Answer:
    counts = {severity: sum(finding.severity is severity for finding in facts.findings) for severity in Severity}
    told = ", ".join(f"{count} {severity.value}" for severity, count in counts.items())
    errors = [finding.title for finding in facts.findings if finding.severity is Severity.ERROR]
    if errors:
        return judged(False, f"diagnose found {told}: {'; '.join(errors)}")
    return judged(True, f"diagnose found {told}")


ITEMS = (
    Item(id="training.finished", title="Run came to its end", judge=_finished, link="run.json"),
    Item(id="training.tuned", title="Hyperparameters tuned", judge=_tuned),
    Item(id="training.finite", title="Loss and gradients finite at every step", judge=_finite, link="events.jsonl"),
    Item(id="training.last_is_best", title="No overfitting at the end", judge=_last_is_best, link="events.jsonl"),
    Item(id="training.healthy", title="No error among the findings", judge=_healthy, link="findings.json"),
)
