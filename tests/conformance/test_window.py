"""Windows: exactly the declared number of keys, on a shortened window where it is wide."""

import pytest
import torch

from regard.conformance import check


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_the_declared_window_passes(small, impl):
    outcome = check(small("mistral", impl), rules=["window"])["window"]

    assert outcome.verdict == "pass"
    assert "2 of 2 layers see exactly the last 4 keys" in outcome.summary


def test_a_wide_window_is_shortened_on_the_copy(small):
    model = small("mistral")
    model.config.sliding_window = 4096
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 4096

    assert check(model, rules=["window"])["window"].verdict == "pass"
    assert model.config.sliding_window == model.model.layers[0].self_attn.sliding_window == 4096


def one_too_many(module, kwargs):
    length = kwargs["hidden_states"].shape[1]
    places = torch.arange(length)
    before = places[:, None] - places
    return {"attention_mask": ((before >= 0) & (before <= 4))[None, None]}


def test_a_window_that_is_off_by_one_is_located(small, changed):
    model = small("mistral")
    changed(model.model.layers[1].self_attn, one_too_many)

    report = check(model, rules=["window"])

    assert report.failed == ["window"]
    assert report["window"].case.layer == "model.layers.1.self_attn"
    assert "query 4 of 5 tokens sees 5 keys, not 4" in report["window"].summary
    assert (report["window"].case.length, report["window"].case.query, report["window"].case.key) == (5, 4, 0)


def test_a_lost_window_is_found(small, changed):
    model = small("mistral")
    for layer in model.model.layers:
        changed(layer.self_attn, whole)

    assert "none of 2 layers has one" in check(model, rules=["window"])["window"].summary


def whole(module, kwargs):
    length = kwargs["hidden_states"].shape[1]
    return {"attention_mask": torch.ones(1, 1, length, length, dtype=torch.bool).tril()}


def test_a_model_without_a_window_is_not_asked(small):
    assert check(small("gpt2"), rules=["window"])["window"].verdict == "not applicable"
