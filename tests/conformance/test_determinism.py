"""Determinism: two runs have the same bits."""

from regard.conformance import check


def test_two_runs_with_the_same_bits_pass(attend):
    assert check(attend(), rules=["determinism"])["determinism"].measured == 0


def test_random_weights_are_named_first(attend):
    report = check(attend("dropped weights"))

    assert report.failed == ["determinism"]
    assert report["softmax"].verdict == "could not test"
