import pytest

from regard.records import ReadinessItem, Status, Verdict
from regard.viewer.report.outcome import outcome


def with_items(run, *verdicts):
    items = [
        ReadinessItem(id=f"a.{index}", section="A", title=f"Item {index}", verdict=verdict, evidence="e")
        for index, verdict in enumerate(verdicts)
    ]
    run.write_readiness(items)
    return run


@pytest.mark.parametrize(
    ("verdicts", "word", "tone"),
    [
        ([Verdict.PASS, Verdict.PASS], "ready", "good"),
        ([Verdict.PASS, Verdict.NOT_DONE], "incomplete", "fair"),
        ([Verdict.PASS, Verdict.NOT_DONE, Verdict.FAIL], "not ready", "bad"),
    ],
)
def test_not_done_never_counts_as_passed(small_run, verdicts, word, tone):
    found = outcome(with_items(small_run(), *verdicts))

    assert (found.word, found.tone, found.passed) == (word, tone, verdicts.count(Verdict.PASS))


def test_sentence_counts_one_item_in_the_singular(small_run):
    run = with_items(small_run(), Verdict.PASS, Verdict.FAIL, Verdict.NOT_DONE)

    assert outcome(run).sentence == "1 of 3 items of the production checklist pass, 1 item fails, 1 is not done."


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (Status.RUNNING, "running"),
        (Status.INTERRUPTED, "interrupted"),
        (Status.FAILED, "failed"),
        (Status.FINISHED, "not judged"),
    ],
)
def test_run_that_was_not_judged_says_how_far_it_came(small_run, status, word):
    assert outcome(small_run(status=status)).word == word
