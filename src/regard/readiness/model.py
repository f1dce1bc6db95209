"""Model selection: is the model worth more than something simpler?"""

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done
from regard.records import Interval

__all__ = ["ITEMS", "MAJORITY", "SECTION"]

SECTION = "Model selection"
MAJORITY = "majority class"
"""Name of the baseline in the table of models (a test holds it equal to the one that ``evaluate`` writes)."""

# A model that is ahead may still be level within the noise of one test set; it may not be worse by half a point.
_MARGIN = 0.005
_FILE = "metrics.json"
_COMPARISON = "comparison.json"
_CLASSIFIES = ("text classification", "sequence classification")
_OTHERS = (
    "token tagging",
    "translation",
    "language modelling",
    "masked language modelling",
    "forecasting",
    "sequence regression",
)


def _beats_majority(facts: Facts) -> Answer:
    ours = facts.metric("accuracy")
    theirs = next((score.metrics.get("accuracy") for score in facts.scores if score.name == MAJORITY), None)
    if ours is None or theirs is None or ours.low is None or theirs.high is None:
        return not_done("the table lacks the accuracy of the majority class with its interval; evaluate with baselines")
    return judged(ours.low > theirs.high, f"accuracy {_told(ours)} against {_told(theirs)} of always naming one class")


def _beats_naive(facts: Facts) -> Answer:
    """Compare with every baseline of the table: a naive one that is ahead shows in the difference from the best."""
    baselines = [score.name for score in facts.scores if score.kind == "baseline"]
    comparison = pick(facts.metrics, _FILE, "comparison")
    if comparison is None or comparison.get("low") is None:
        return not_done("no baseline with an interval is in the table; evaluate again")
    evidence = f"{comparison['difference']:+.4g} in {comparison['metric']} against {comparison['against']}"
    return judged(comparison["low"] > 0, f"{evidence}, the best of {', '.join(baselines)}; paired over the same rows")


def _beats_baseline(facts: Facts) -> Answer:
    comparison = pick(facts.metrics, _FILE, "comparison")
    if comparison is None:
        return not_done("no baseline is in the table; evaluate with a tuned linear baseline")
    difference, low, high, against = (pick(comparison, _FILE, key) for key in ("difference", "low", "high", "against"))
    if None in (difference, low, high):
        return not_done(f"the difference from {against} has no interval; evaluate again")
    metric = pick(comparison, _FILE, "metric")
    evidence = f"{metric} {difference:+.4f} [{low:+.4f}, {high:+.4f}] against {against}, paired over the same rows"
    if low > 0:
        return judged(True, f"{evidence}; better beyond chance")
    if difference <= 0:
        return judged(False, f"{evidence}; not ahead: ship the baseline, which is smaller and faster")
    if low > -_MARGIN:
        return judged(True, f"{evidence}; ahead, but this may be chance; worse by half a point is ruled out")
    return judged(False, f"{evidence}; ahead by chance at best, and worse by half a point is not ruled out")


def _told(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _compared(facts: Facts) -> Answer:
    content = facts.optional("comparison")
    if content is None:
        return not_done("other architectures were not tried on this task; run `regard compare`")
    told = []
    for pair in pick(content, _COMPARISON, "against"):
        difference, winner = pick(pair, _COMPARISON, "difference"), pair.get("winner")
        interval = f"{difference['value']:+.4f} [{difference['low']:+.4f}, {difference['high']:+.4f}]"
        told.append(f"{pair['title']} against {pair['other']} {interval}, {winner or 'no winner beyond chance'}")
    seeds = len(pick(content, _COMPARISON, "seeds"))
    return judged(True, f"{pick(content, _COMPARISON, 'models')[0]}, {seeds} seeds: {'; '.join(told)}")


ITEMS = (
    Item(
        id="model.beats_majority",
        title="Better than naming the majority class",
        judge=_beats_majority,
        link=_FILE,
        tasks=_CLASSIFIES,
    ),
    Item(
        id="model.beats_baseline",
        title="Ahead of the best tuned baseline",
        judge=_beats_baseline,
        link=_FILE,
        tasks=_CLASSIFIES,
    ),
    Item(
        id="model.beats_naive",
        title="Better than every baseline, beyond chance",
        judge=_beats_naive,
        link=_FILE,
        tasks=_OTHERS,
    ),
    Item(id="model.compared", title="Architecture compared with alternatives", judge=_compared, link=_COMPARISON),
)
