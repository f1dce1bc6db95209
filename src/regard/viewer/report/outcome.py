"""The one word at the top: ready, incomplete, not ready, or how far the run came."""

from dataclasses import dataclass

from regard.records import Run, Status, Verdict
from regard.viewer.report.numbers import plural

__all__ = ["Outcome", "outcome"]

_UNFINISHED = {
    Status.RUNNING: ("running", "The run has not come to its end yet; what is below is what it has written so far."),
    Status.INTERRUPTED: ("interrupted", "The run was stopped before its end; the same command goes on from there."),
    Status.FAILED: ("failed", "The run stopped with an error; what is below is what it had written by then."),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The verdict for a person.

    Attributes:
        word: ``ready``, ``incomplete``, ``not ready``, ``not judged``, or the status of an unfinished run.
        sentence: why.
        tone: ``good``, ``fair`` or ``bad``.
        passed: number of items of the checklist that pass.
        failed: titles of the items that fail.
        undone: titles of the items that are not done.
    """

    word: str
    sentence: str
    tone: str
    passed: int = 0
    failed: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()


def outcome(run: Run) -> Outcome:
    """Sum up ``run`` from its status and its readiness items."""
    if run.info.status in _UNFINISHED and not run.has("readiness"):
        word, sentence = _UNFINISHED[run.info.status]
        reason = f" Reason: {run.info.message}." if run.info.message else ""
        return Outcome(word=word, sentence=f"{sentence}{reason}", tone="bad" if word == "failed" else "fair")
    if not run.has("readiness"):
        return Outcome(word="not judged", sentence="The checklist was not run; `regard ready` does it.", tone="fair")
    items = run.readiness()
    failed = tuple(item.title for item in items if item.verdict is Verdict.FAIL)
    undone = tuple(item.title for item in items if item.verdict is Verdict.NOT_DONE)
    passed = len(items) - len(failed) - len(undone)
    told = f"{passed} of {len(items)} items of the production checklist pass"
    if failed:
        rest = (
            f", {plural(len(failed), 'item')} {_verb(failed, 'fails', 'fail')}, {len(undone)} {_verb(undone)} not done."
        )
        word, tone, sentence = "not ready", "bad", told + rest
    elif undone:
        word, tone = "incomplete", "fair"
        sentence = f"{told}; none fails, {plural(len(undone), 'item')} {_verb(undone)} not done."
    else:
        word, tone, sentence = "ready", "good", f"All {len(items)} items of the production checklist pass."
    return Outcome(word=word, sentence=sentence, tone=tone, passed=passed, failed=failed, undone=undone)


def _verb(items: tuple[str, ...], one: str = "is", many: str = "are") -> str:
    return one if len(items) == 1 else many
