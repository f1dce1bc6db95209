"""Padding: right and left, whatever it holds, located where it is attended."""

import pytest
import torch

from regard.conformance import check


def test_padding_that_changes_nothing_passes(faulty, small):
    for subject in (faulty(), small("bert"), small("gpt2"), small("llama", "eager")):
        assert check(subject, rules=["padding"])["padding"].verdict == "pass"


def test_padding_that_is_ignored_is_named_first(faulty):
    report = check(faulty("padding ignored"))

    assert report.failed == ["padding"]
    assert "all 4 heads put weight on padding" in report["padding"].summary


def test_one_head_that_sees_padding_is_located(faulty):
    assert check(faulty("one head sees padding"), rules=["padding"])["padding"].case.head == 2


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_one_layer_that_sees_padding_is_located(small, changed, impl):
    model = small("bert", impl)
    changed(model.encoder.layer[1].attention.self, lambda module, kwargs: {"attention_mask": None})

    report = check(model)
    case = report["padding"].case

    assert report.failed[0] == "padding"
    assert (case.length, case.layer) == (2, "encoder.layer.1.attention.self")


def test_ignored_positions_are_found_with_left_padding(small, changed):
    model = small("gpt2")
    changed(model.transformer, lambda module, kwargs: {"position_ids": None})

    report = check(model)

    assert report.failed[0] == "padding"
    assert "on the left" in report["padding"].summary
    assert "positions count the padding" in report["padding"].meaning


def test_positions_that_cannot_be_corrected_are_said(small):
    assert "not on the left of encoder and decoder" in check(small("bart"), rules=["padding"])["padding"].summary


def test_the_reproduction_reproduces(small, changed):
    model = small("bert")
    changed(model.encoder.layer[1].attention.self, lambda module, kwargs: {"attention_mask": None})
    code = check(model, rules=["padding"])["padding"].reproduction
    said: list[torch.Tensor] = []

    exec(code, {"model": model, "print": said.append})

    assert said[0] > 1e-4
