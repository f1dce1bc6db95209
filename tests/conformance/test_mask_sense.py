"""Mask sense: inverted masks and masks that are added as numbers are told apart from masks that are ignored."""

import pytest
import torch

from regard.conformance import check

WORDS = {
    "mask inverted": "the mask is inverted",
    "mask as 0 and 1": "added to the scores as 0 and 1",
    "mask ignored": "the mask has no effect",
}


def test_the_right_sense_passes_with_both_kinds_of_masks(attend):
    outcome = check(attend(), rules=["mask_sense"])["mask_sense"]

    assert outcome.verdict == "pass"
    assert outcome.ways == ("boolean mask", "float mask")


@pytest.mark.parametrize("fault", WORDS)
def test_a_wrong_sense_is_named_first_and_said_in_words(attend, fault):
    report = check(attend(fault))

    assert report.failed[0] == "mask_sense"
    assert WORDS[fault] in report["mask_sense"].summary
    assert report["mask_sense"].case.length == 2


def test_an_inverted_padding_mask_of_a_module_is_found(faulty):
    report = check(faulty("padding inverted"))

    assert report.failed[0] == "mask_sense"
    assert "inverted" in report["mask_sense"].summary


def inverted(module, kwargs):
    mask = kwargs.get("attention_mask")
    return {} if mask is None else {"attention_mask": 1 - mask}


def as_numbers(module, kwargs):
    mask = kwargs.get("attention_mask")
    if mask is None:
        return {}
    keep = mask if mask.dtype == torch.bool else mask == 0
    return {"attention_mask": keep.to(next(module.parameters()).dtype)}


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_an_inverted_mask_of_a_model_is_found(small, changed, impl):
    model = small("bert", impl)
    changed(model, inverted)

    report = check(model)

    assert report.failed[0] == "mask_sense"
    assert "padding" in [one.rule.id for one in report.checked if one.explained_by]


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_a_mask_that_is_added_as_a_number_is_located(small, changed, impl):
    model = small("bert", impl)
    changed(model.encoder.layer[1].attention.self, as_numbers)

    report = check(model)

    assert report.failed[0] == "mask_sense"
    assert report["mask_sense"].case.layer == "encoder.layer.1.attention.self"
    assert report["mask_sense"].case.length == 2
    assert "as 0 and 1" in report["mask_sense"].summary


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_the_reproduction_reproduces(small, changed, impl):
    model = small("bert", impl)
    changed(model.encoder.layer[1].attention.self, as_numbers)
    code = check(model, rules=["mask_sense"])["mask_sense"].reproduction
    said = []

    exec(code, {"model": model, "print": said.append})

    assert said[0] > 1e-4
