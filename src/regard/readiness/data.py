"""Data preparation: is the set audited, split into three, free of leaks, and read to the end?"""

from itertools import combinations
from typing import Any

from regard.readiness.facts import Facts, pick
from regard.readiness.item import Answer, Item, judged, not_done

__all__ = ["ITEMS", "SECTION"]

SECTION = "Data preparation"

# A leaked document can at most turn a wrong answer into a right one, so a share s of them moves accuracy by at most s.
# 0.5 % stays inside the sampling noise of any test set below 10,000 rows. Nearly equal documents help less: newswire
# and reviews repeat phrases honestly, and the label of the twin may even mislead.
_EXACT_LEAKS = 0.005
_NEAR_LEAKS = 0.02
# Beyond a quarter, most errors could come from text that the model never saw.
_TRUNCATED = 0.25
_SPLITS = ("train", "validation", "test")
_FILE = "audit.json"
_CLASSIFIES = ("text classification", "sequence classification")
_DOCUMENTS = ("text classification", "token tagging", "translation")
"""Tasks whose rows are texts of their own; a series or one long text has no rows that could be equal or cut."""
_ROWS = (*_DOCUMENTS, "sequence classification", "sequence regression")
"""Tasks whose rows are of their own: texts, and sequences of frames, which are never cut."""


def _splits(facts: Facts) -> dict[str, Any]:
    splits: dict[str, Any] = pick(facts.audit, _FILE, "splits")
    return splits


def _audited(facts: Facts) -> Answer:
    splits = _splits(facts)
    sizes = {name: pick(split, _FILE, "num_rows") for name, split in splits.items()}
    lacking = [name for name in _SPLITS if not sizes.get(name)]
    told = ", ".join(f"{name} {size}" for name, size in sizes.items())
    if lacking:
        return judged(False, f"no rows in {', '.join(lacking)} (rows: {told})")
    warnings = len(pick(facts.audit, _FILE, "warnings"))
    return judged(True, f"rows: {told}; the audit warns of {warnings} thing{'' if warnings == 1 else 's'}")


def _disjoint(facts: Facts) -> Answer:
    rows = {name: pick(split, "split.json", "rows") for name, split in facts.split.items()}
    files = pick(facts.audit, _FILE, "source", "files")
    # Row numbers count within a file: a split from a file of its own has numbers of its own.
    names = [name for name in rows if not _is_apart(name, facts.split, files)]
    for first, second in combinations(names, 2):
        both = _shared_rows(rows[first], rows[second])
        if both:
            return judged(False, f"{both} rows are both in {first} and in {second}")
    if len(names) < 2:
        return judged(True, f"{', '.join(rows)} are files of their own")
    separate = "".join(f"; {name} is a file of its own" for name in rows if name not in names)
    return judged(True, f"no row number is in two of {', '.join(names)}{separate}")


def _is_apart(name: str, splits: dict[str, Any], files: list[str]) -> bool:
    """Return whether a split has other files than the training rows; where it does not say, their number tells."""
    own = splits[name].get("files")
    if own is not None:
        return name != "train" and own != splits.get("train", {}).get("files")
    return name == "test" and len(files) > 1


def _shared_rows(one: list[list[int]], other: list[list[int]]) -> int:
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0]) + 1) for a in one for b in other)


def _test_untouched(facts: Facts) -> Answer:
    scored, split = pick(facts.metrics, "metrics.json", "num_rows"), pick(facts.metrics, "metrics.json", "split")
    audited = pick(_splits(facts), _FILE, "test", "num_rows")
    looks = len(facts.events("validation"))
    if split != "test":
        return judged(False, f"the figures are of the {split} split; score the test split")
    if scored != audited:
        return judged(False, f"{scored} rows were scored, but the test split has {audited}")
    if facts.info.config.get("data", {}).get("max_test") is not None:
        return not_done(f"data.max_test kept only {scored} test rows; run without it to score the whole test set")
    return judged(True, f"all {scored} test rows scored; the {looks} looks while training were at validation")


def _leaks(facts: Facts, kind: str, limit: float, words: str) -> Answer:
    pairs = pick(facts.audit, _FILE, "leaks", kind)
    if not pairs:
        return not_done("no two splits were compared; audit all three together")
    found = [[pick(pair, _FILE, key) for key in ("splits", "count", "share_of_test")] for pair in pairs]
    told = [f"{count} of {later} {words} in {first} ({share:.2%})" for (first, later), count, share in found if count]
    if not told:
        return judged(True, f"none between {len(pairs)} pairs of splits")
    bound = f"the limit is {limit:.1%}, and a leaked share moves the accuracy by no more than itself"
    return judged(max(share for *_, share in found) <= limit, f"{', '.join(told)}; {bound}")


def _exact_leaks(facts: Facts) -> Answer:
    words = "stand word for word" if facts.info.task in _DOCUMENTS else "are equal, value for value,"
    return _leaks(facts, "exact", _EXACT_LEAKS, words)


def _near_leaks(facts: Facts) -> Answer:
    return _leaks(facts, "near", _NEAR_LEAKS, "stand nearly word for word")


def _every_class(facts: Facts) -> Answer:
    labels = {name: pick(split, _FILE, "labels") for name, split in _splits(facts).items()}
    known = sorted({label for counts in labels.values() for label in counts})
    absent = [f"{label!r} in {name}" for name, counts in labels.items() for label in known if not counts.get(label)]
    if absent:
        return judged(False, f"no row of {', '.join(absent)}")
    count, label, name = min((counts[label], label, name) for name, counts in labels.items() for label in known)
    return judged(
        True, f"{len(known)} classes in each of {len(labels)} splits; fewest rows: {count} of {label!r} in {name}"
    )


def _no_empty_rows(facts: Facts) -> Answer:
    empty = {name: pick(split, _FILE, "num_empty") for name, split in _splits(facts).items()}
    told = ", ".join(f"{count} in {name}" for name, count in empty.items() if count)
    return judged(not told, f"rows without text: {told or 'none'}")


def _truncation(facts: Facts) -> Answer:
    shares = {name: pick(split, _FILE, "truncated_share") for name, split in _splits(facts).items()}
    if None in shares.values():
        return not_done("the audit did not count tokens, so nobody knows what is cut; audit with the tokenizer")
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    limit = (
        f"documents longer than {facts.audit.get('max_len')} tokens are cut: {told}; at most {_TRUNCATED:.0%} may be"
    )
    return judged(max(shares.values()) <= _TRUNCATED, limit)


ITEMS = (
    Item(id="data.audited", title="Data audited and split into three", judge=_audited, link=_FILE),
    Item(id="data.disjoint", title="No row in two splits", judge=_disjoint, link="split.json"),
    Item(
        id="data.test_untouched",
        title="Whole test set scored, choices made on validation",
        judge=_test_untouched,
        link="metrics.json",
    ),
    Item(
        id="data.exact_leaks",
        title="No rows leak between splits",
        judge=_exact_leaks,
        link=_FILE,
        tasks=_ROWS,
    ),
    Item(
        id="data.near_leaks",
        title="No near duplicates leak between splits",
        judge=_near_leaks,
        link=_FILE,
        tasks=_DOCUMENTS,
    ),
    Item(id="data.every_class", title="Every class in every split", judge=_every_class, link=_FILE, tasks=_CLASSIFIES),
    Item(id="data.no_empty_rows", title="No rows without text", judge=_no_empty_rows, link=_FILE, tasks=_DOCUMENTS),
    Item(id="data.truncation", title="Few documents are cut", judge=_truncation, link=_FILE, tasks=_DOCUMENTS),
)
