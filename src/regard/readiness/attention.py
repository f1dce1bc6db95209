"""Attention: was every layer looked at, and was the mechanism proved right?"""

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done
from regard.records import CheckVerdict

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
    checks = facts.checks
    proved, broken = checks.rules_with(CheckVerdict.PASS), checks.rules_with(CheckVerdict.FAIL)
    untested = checks.rules_with(CheckVerdict.NOT_TESTED)
    if broken:
        names = ", ".join(rule.rule for rule in broken)
        return judged(False, f"broken: {names}, of {len(checks.rules)} laws; {broken[0].summary}")
    evidence = f"laws proved on {checks.subject}{' by the fast check' if checks.fast else ''}: {len(proved)}"
    if untested:
        reasons = "; ".join(f"{rule.rule}: {rule.summary}" for rule in untested)
        return not_done(f"{evidence}; could not be tested: {reasons}")
    if not proved:
        return not_done(f"no law could be proved on {checks.subject}; `regard check` says why")
    return judged(True, f"{evidence} ({', '.join(rule.rule for rule in proved)}), none broken")


ITEMS = (
    Item(id="attention.seen", title="Every attention layer watched", judge=_seen, link="run.json"),
    Item(id="attention.laws", title="Laws of attention hold", judge=_laws, link="checks.json"),
)
