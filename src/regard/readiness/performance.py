"""Performance: is the hardware used for real tokens, through fused kernels?

The guide's third point, caching of keys and values, has no item: a classifier reads each document once.
"""

from regard.readiness.facts import Facts
from regard.readiness.item import Answer, Item, judged, not_done

__all__ = ["ITEMS", "SECTION"]

SECTION = "Performance"

_PADDING = 0.10
_UNFUSED = ("math", "reference")


def _profiled(facts: Facts) -> Answer:
    return not_done("the costly parts of a step were not measured; this version of regard does not profile yet")


def _fused(facts: Facts) -> Answer:
    kernels = facts.info.kernels
    if not kernels:
        return not_done("run.json names no attention kernel; train with watch on")
    calls = sum(kernels.values())
    slow = sum(count for name, count in kernels.items() if any(word in name for word in _UNFUSED))
    told = ", ".join(f"{name} {count}" for name, count in kernels.items())
    return judged(not slow, f"{calls - slow} of {calls} attention calls ran in a fused kernel ({told})")


def _little_padding(facts: Facts) -> Answer:
    steps = [event for event in facts.events("step") if event.get("tokens") and event.get("padding_share") is not None]
    if not steps:
        return not_done("no step records its share of padding")
    tokens = sum(event["tokens"] for event in steps)
    cells = sum(event["tokens"] / (1 - event["padding_share"]) for event in steps)
    share = 1 - tokens / cells
    return judged(share <= _PADDING, f"{share:.1%} of what the model computed was padding, at most {_PADDING:.0%}")


ITEMS = (
    Item(id="performance.profiled", title="Costly parts identified", judge=_profiled),
    Item(id="performance.fused", title="Attention runs in fused kernels", judge=_fused, link="run.json"),
    Item(id="performance.padding", title="Little work spent on padding", judge=_little_padding, link="events.jsonl"),
)
