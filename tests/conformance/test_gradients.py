"""Gradients: those of the output."""

from regard.conformance import check


def test_gradients_that_outputs_confirm_pass(attend, small):
    for subject in (attend(), small("bert"), small("llama")):
        assert check(subject, rules=["gradients"])["gradients"].measured < 1e-3


def test_detached_weights_are_found(attend):
    report = check(attend("detached weights"))

    assert report.failed == ["gradients"]
