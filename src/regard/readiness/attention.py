"""Attention: was every layer looked at, and was the mechanism proved right?"""

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done

__all__ = ["ITEMS", "SECTION"]

SECTION = "Attention"


def _seen(facts: Facts) -> Answer:
    layers = facts.info.coverage
    if not layers:
        return not_done("run.json lists no attention layer; train with watch on")
    unseen = [entry for entry in layers if not pick(entry, "run.json", "seen")]
    if unseen:
        told = "; ".join(f"{entry.get('layer')}: {entry.get('reason') or 'no reason recorded'}" for entry in unseen)
        return judged(False, f"{len(unseen)} of {len(layers)} attention layers were not seen: {told}")
    calls = sum(entry.get("calls", 0) for entry in layers)
    return judged(True, f"all {len(layers)} attention layers were watched, {calls} calls")


def _laws(facts: Facts) -> Answer:
    return not_done(
        "causality, padding, scale and the other laws were not proved on this model; "
        "this version of regard does not check them yet"
    )


ITEMS = (
    Item(id="attention.seen", title="Every attention layer watched", judge=_seen, link="run.json"),
    Item(id="attention.laws", title="Laws of attention hold", judge=_laws),
)
