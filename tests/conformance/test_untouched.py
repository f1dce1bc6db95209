"""Untouched: a call in evaluation mode changes nothing."""

from regard.conformance import check


def test_a_call_that_changes_nothing_passes(attend, small):
    for subject in (attend(), small("gpt2")):
        assert check(subject, rules=["untouched"])["untouched"].verdict == "pass"


def test_a_buffer_that_counts_calls_is_found(faulty):
    report = check(faulty("counts calls"))

    assert report.failed == ["untouched"]
    assert "calls" in report["untouched"].summary


def test_an_input_that_is_written_to_is_found(attend):
    report = check(attend("writes into value"), rules=["untouched"])

    assert report.failed == ["untouched"]
    assert "in place" in report["untouched"].summary
