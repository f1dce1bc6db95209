"""A softmax of zeros and ones hides much from outputs: no rule may take that for a mask, or for lost positions."""

import pytest
import torch

from regard.conformance import check
from regard.conformance.families import family
from regard.conformance.trace import Heard
from regard.observe import AttentionCall

SHARP = 800.0
RULES = ["bidirectional", "window", "causal_corner", "positions", "cross_lengths", "gradients"]


def sharp(name, impl="sdpa"):
    model = family(name, impl=impl)
    for parameter in model.parameters():
        parameter.data *= SHARP if parameter.ndim > 1 else 1
    return model


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "mistral", "gemma2", "t5", "vit"])
def test_a_sharp_model_raises_no_alarm(name, impl):
    report = check(sharp(name, impl), fast=True, rules=RULES)

    assert report.failed == [], str(report)


def test_lost_positions_of_a_sharp_model_are_found_all_the_same():
    model = sharp("llama")
    rotary = model.model.rotary_emb

    class Still(type(rotary)):
        def forward(self, x, position_ids):
            cos, sin = super().forward(x, position_ids)
            return torch.ones_like(cos), torch.zeros_like(sin)

    rotary.__class__ = Still

    assert check(model, fast=True, rules=RULES).failed == ["positions"]


def test_tokens_without_any_effect_leave_positions_untested():
    model = family("bert")
    for parameter in model.parameters():
        parameter.data.zero_()

    assert check(model, rules=["positions"])["positions"].verdict == "could not test"


def heard(scores):
    return Heard("layer", AttentionCall(scores=scores, kernel="softmax"), None, None)


def test_a_key_is_hidden_by_minus_infinity_and_by_a_fill_far_below():
    scores = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)

    for fill in (-torch.inf, torch.finfo(torch.float64).min, -1e9, -1e4):
        assert torch.equal(heard(scores.masked_fill(later, fill)).hidden, later.expand(1, 2, 4, 4))


def test_a_key_whose_weight_underflows_is_not_hidden():
    scores = 1e5 * torch.randn(1, 2, 6, 6, dtype=torch.float64)

    assert bool((heard(scores).weights == 0).any())
    assert not bool(heard(scores).hidden.any())
