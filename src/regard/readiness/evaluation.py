"""Model evaluation: are all figures there, with intervals, honest about confidence and about the rarest class?"""

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done
from regard.records import Interval

__all__ = ["ITEMS", "SECTION"]

SECTION = "Model evaluation"

_CLASSIFIES = ("text classification", "sequence classification")
_METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "auc_roc")
# A stated confidence that is off by more than five points misleads whoever sets a threshold on it.
_CALIBRATION = 0.05
# A class that is missed more often than found is not served.
_RECALL = 0.5
_FILE = "metrics.json"


def _complete(facts: Facts) -> Answer:
    names = _METRICS if facts.info.task in _CLASSIFIES else pick(facts.metrics, _FILE, "metric_order")
    found = {name: facts.metric(name) for name in names}
    lacking = [f"{name} ({_why(interval)})" for name, interval in found.items() if not _whole(interval)]
    if lacking:
        return judged(False, f"no value with an interval for {', '.join(lacking)}")
    told = [f"{name} {i.value:.4f} [{i.low:.4f}, {i.high:.4f}]" for name, i in found.items() if i is not None]
    return judged(True, ", ".join(told))


def _whole(interval: Interval | None) -> bool:
    return interval is not None and None not in (interval.value, interval.low, interval.high)


def _why(interval: Interval | None) -> str:
    return "not computed" if interval is None else interval.note or "no interval"


def _calibrated(facts: Facts) -> Answer:
    error = facts.metric("calibration_error")
    if error is None or error.value is None:
        return not_done(f"no calibration error: {_why(error)}")
    return judged(error.value <= _CALIBRATION, f"expected calibration error {error.value:.4f}, at most {_CALIBRATION}")


def _rarest_class(facts: Facts) -> Answer:
    rows = pick(facts.metrics, _FILE, "per_class")
    if not rows:
        return not_done("there is no table per class; evaluate again")
    support, recall, label = min(tuple(pick(row, _FILE, key) for key in ("support", "recall", "label")) for row in rows)
    evidence = f"{label!r}, {support} test rows, has recall {recall:.3f}, at least {_RECALL}"
    return judged(support > 0 and recall >= _RECALL, evidence)


ITEMS = (
    Item(
        id="evaluation.complete",
        title="Every metric of the task with its interval",
        judge=_complete,
        link=_FILE,
    ),
    Item(
        id="evaluation.calibrated",
        title="Confidence can be taken at its word",
        judge=_calibrated,
        link=_FILE,
        tasks=_CLASSIFIES,
    ),
    Item(
        id="evaluation.rarest_class", title="Rarest class is found", judge=_rarest_class, link=_FILE, tasks=_CLASSIFIES
    ),
)
