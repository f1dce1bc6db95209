"""Softmax: over the keys, and nothing between it and the values."""

import pytest

from regard.conformance import check


def test_a_softmax_over_keys_passes(attend, faulty, small):
    for subject in (attend(), faulty(), small("bert"), small("llama", "eager")):
        assert check(subject, rules=["softmax"])["softmax"].verdict == "pass"


@pytest.mark.parametrize("fault", ["softmax over queries", "clamped weights"])
def test_another_normalisation_is_named_first(attend, fault):
    report = check(attend(fault))

    assert report.failed[0] == "softmax"
    assert all("softmax" in one.explained_by for one in report.checked if one.rule.id == "formula")


def test_the_wrong_axis_of_a_function_is_said_in_words(attend):
    assert "over the queries" in check(attend("softmax over queries"), rules=["softmax"])["softmax"].summary


def test_the_wrong_axis_of_a_module_is_found(faulty):
    report = check(faulty("softmax over queries"))

    assert report.failed[0] == "softmax"
    assert "axis -2" in report["softmax"].summary


def test_weights_that_are_changed_after_the_softmax_are_found_in_a_layer(small, monkeypatch):
    from transformers.models.bert import modeling_bert

    def clamped(module, query, key, value, attention_mask, scaling, **options):
        weights = (query @ key.mT * scaling).softmax(-1).clamp(max=0.1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    monkeypatch.setattr(modeling_bert, "eager_attention_forward", clamped)

    report = check(small("bert", "eager"), rules=["softmax"])

    assert report.failed == ["softmax"]
    assert report["softmax"].case.layer == "encoder.layer.0.attention.self"
