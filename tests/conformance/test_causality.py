"""Causality: by perturbation and by gradient, located by layer and head, shrunk to the shortest sequence."""

import pytest
import torch
from torch import nn

from regard.conformance import Model, check


def test_a_causal_function_passes_in_two_ways(attend):
    outcome = check(attend(), rules=["causality"])["causality"]

    assert outcome.verdict == "pass"
    assert outcome.ways == (
        "perturbation of each token",
        "perturbation under a mask of real tokens",
        "gradients",
    )
    assert outcome.measured == 0


@pytest.mark.parametrize("fault", ["not causal", "sees the next"])
def test_a_leak_is_named_first_and_shrunk_to_two_tokens(attend, fault):
    report = check(attend(fault))
    case = report["causality"].case

    assert report.failed[0] == "causality"
    assert (case.length, case.key, case.query) == (2, 1, 0)
    assert "causality" in next(one for one in report.checked if one.rule.id == "causal_corner").explained_by


def unmasked(module, kwargs):
    return {"attention_mask": torch.zeros(1, 1, 1, 1, dtype=next(module.parameters()).dtype)}


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_a_layer_without_its_mask_is_located(small, changed, impl):
    model = small("gpt2", impl)
    changed(model.transformer.h[1].attn, unmasked)

    report = check(model)

    assert report.failed[0] == "causality"
    assert report["causality"].case.layer == "transformer.h.1.attn"
    assert "all 4 heads leak token 1 into position 0 (2 tokens are enough)" in report["causality"].summary


def test_one_head_that_leaks_is_located(small, changed):
    def open_for_head_2(module, kwargs):
        length = kwargs["hidden_states"].shape[1]
        keep = torch.ones(1, 4, length, length, dtype=torch.bool).tril()
        keep[:, 2] = True
        return {"attention_mask": keep}

    model = small("llama")
    changed(model.model.layers[0].self_attn, open_for_head_2)

    case = check(model, rules=["causality"])["causality"].case

    assert (case.layer, case.head, case.query, case.key) == ("model.layers.0.self_attn", 2, 0, 1)


def test_a_leak_outside_of_attention_is_said_to_be_outside(small):
    model = small("gpt2")

    model.transformer.h[1].mlp.act, model.transformer.h[0].mlp.act = Blurred(), nn.GELU()

    outcome = check(model, rules=["causality"])["causality"]

    assert outcome.verdict == "fail"
    assert outcome.case.layer is None
    assert "no attention call that could be heard leaks it" in outcome.meaning


class Blurred(nn.Module):
    """A step that mixes each token with the next one."""

    def forward(self, x):
        return x + 0.1 * x.roll(-1, 1)


def test_a_gradient_through_rounded_outputs_is_seen(attend):
    """A leak too small for a perturbation, whose gradient is there."""

    def leaky(query, key, value, is_causal=False):
        output = attend()(query, key, value, is_causal=is_causal)
        later = value.flip(2)
        return output + (later - later.detach()) * 0.1

    report = check(leaky, rules=["causality"])

    assert report.failed == ["causality"]
    assert report["causality"].ways == ("gradients",)


def test_an_encoder_is_not_asked(small):
    assert check(small("bert"), rules=["causality"])["causality"].verdict == "not applicable"


def test_a_person_can_say_that_a_model_should_be_causal(small):
    assert check(small("bert"), rules=["causality"], assume={"causal": True}).failed == ["causality"]


def test_a_model_of_ones_own_is_measured_to_be_causal():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def call(module, tokens, keep):
        length = tokens.shape[1]
        return module(tokens, src_mask=torch.ones(length, length, dtype=torch.bool).triu(1))

    report = check(Model(module=layer, call=call, embed_dim=16), rules=["causality"])

    assert report["causality"].verdict == "pass"
    assert any(line.startswith("causal = True (a layer hides all later tokens)") for line in report.assumptions)


def test_the_reproduction_reproduces(small, changed):
    model = small("gpt2")
    changed(model.transformer.h[1].attn, unmasked)
    code = check(model, rules=["causality"])["causality"].reproduction
    said: list[torch.Tensor] = []

    exec(code, {"model": model, "print": said.append})

    assert said[0] > 1e-4
