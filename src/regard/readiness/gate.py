"""The release gate: every item of the checklist answered from the records, and one word about all of them."""

from collections.abc import Sequence

from regard._errors import ArgumentError
from regard.readiness import (
    attention,
    data,
    evaluation,
    lifecycle,
    model,
    performance,
    reproducibility,
    training,
)
from regard.readiness.facts import Facts, NotRecordedError
from regard.readiness.item import Item, not_done
from regard.records import ReadinessItem, Run, Verdict

__all__ = ["checklist", "judge", "verdict"]

_SECTIONS = (data, model, training, evaluation, attention, performance, lifecycle, reproducibility)


def checklist() -> list[tuple[str, Item]]:
    """Return every item with the title of its section, in the order in which they are shown."""
    return [(section.SECTION, item) for section in _SECTIONS for item in section.ITEMS]


def judge(run: Run) -> list[ReadinessItem]:
    """Answer every item that concerns the task of ``run`` from its records; write them with ``run.write_readiness``.

    An item whose evidence was not recorded, in an unfinished run for example, is "not done" and says what would record
    it. Nothing is computed again, and nothing is passed for lack of evidence.

    Raises:
        RecordError: a file of the run is damaged.
    """
    facts = Facts(run)
    return [_answer(item, facts, section) for section, item in checklist() if item.concerns(facts.info.task)]


def _answer(item: Item, facts: Facts, section: str) -> ReadinessItem:
    try:
        answer = item.judge(facts)
    except NotRecordedError as absence:
        answer = not_done(str(absence))
    return item.answered(answer, section=section)


def verdict(items: Sequence[ReadinessItem]) -> tuple[str, str]:
    """Sum up the gate in one word and one sentence.

    Returns:
        ``not ready`` if an item fails, ``incomplete`` if none fails but some are not done, else ``ready``; and why.

    Raises:
        ArgumentError: there are no items.
    """
    if not items:
        raise ArgumentError("A verdict needs the answers of the checklist, got none; judge the run first.")
    titles = {verdict: [item.title for item in items if item.verdict is verdict] for verdict in Verdict}
    passed, failed, undone = (len(titles[verdict]) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.NOT_DONE))
    count = f"{passed} of {len(items)} items passed"
    if failed:
        return "not ready", f"{count}, {failed} failed ({'; '.join(titles[Verdict.FAIL])}), {undone} not done."
    if undone:
        return "incomplete", f"{count}, none failed, {undone} not done ({'; '.join(titles[Verdict.NOT_DONE])})."
    return "ready", f"All {len(items)} items passed."
