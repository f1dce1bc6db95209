"""Bidirectional: a layer that hides a side is located, also where other layers read it; and outputs are looked at."""

import pytest
import torch
from torch import nn

from regard.conformance import check
from regard.conformance.families import family
from regard.conformance.mutants.patches import kernel, with_kernel
from regard.conformance.mutants.steps import Steps


def bidirectional(subject, **options):
    return check(subject, rules=["bidirectional"], **options)["bidirectional"]


def hiding(layer, triangle):
    """Have one layer of transformers hide what ``triangle`` of ones does not leave."""

    def one_sided(scores):
        seen = triangle(torch.ones(scores.shape[-2:], dtype=torch.bool))
        return scores.masked_fill(~seen, -torch.inf).softmax(-1)

    with_kernel(layer, triangle.__name__, kernel(Steps(weights=one_sided)))


def test_encoders_functions_and_modules_pass_in_their_ways(attend, faulty, small):
    assert bidirectional(attend()).ways == ("perturbation of each token",)
    assert bidirectional(faulty()).ways == ("keys that each layer hides", "perturbation of each token")
    assert bidirectional(small("bert")).ways == ("keys that each layer hides", "perturbation of each token")
    assert bidirectional(family("vit")).ways == ("keys that each layer hides",)


def test_what_is_causal_is_not_asked(small):
    assert bidirectional(small("gpt2")).verdict == "not applicable"


@pytest.mark.parametrize(("triangle", "side", "pair"), [(torch.tril, "later", (0, 1)), (torch.triu, "earlier", (1, 0))])
def test_one_layer_of_two_that_hides_a_side_is_located(small, triangle, side, pair):
    model = small("bert")
    hiding(model.encoder.layer[1].attention.self, triangle)

    report = check(model)
    case = report["bidirectional"].case

    assert report.failed[0] == "bidirectional"
    assert f"hides all {side} tokens" in report["bidirectional"].summary
    assert (case.length, case.layer, case.query, case.key) == (2, "encoder.layer.1.attention.self", *pair)


def test_an_encoder_of_two_stacks_is_asked(small):
    model = small("bart")
    hiding(model.model.encoder.layers[0].self_attn, torch.tril)

    assert bidirectional(model).case.layer == "model.encoder.layers.0.self_attn"


def test_a_function_that_is_meant_to_read_both_sides_is_found(attend):
    def causal(query, key, value):
        return attend()(query, key, value, is_causal=True)

    outcome = bidirectional(causal, assume={"causal": False})

    assert (outcome.case.length, outcome.case.query, outcome.case.key) == (2, 0, 1)
    assert bidirectional(causal).verdict == "not applicable"


def test_a_sharp_function_is_asked_with_small_tokens():
    def sharp(query, key, value):
        return (100.0 * query @ key.mT).softmax(-1) @ value

    assert check(sharp, assume={"scale": 100.0}).ok


def test_a_token_that_a_layer_drops_is_found_by_its_outputs():
    class Deaf(nn.Module):
        """An encoder that does not read its last token."""

        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x):
            hidden = torch.zeros(x.shape[:2], dtype=torch.bool)
            hidden[:, -1] = x.shape[1] > 2
            return self.layer(x, src_key_padding_mask=hidden)

    outcome = bidirectional(Deaf())

    assert outcome.ways == ("perturbation of each token",)
    assert "token 2 does not change the output at 0 (3 tokens are enough)" in outcome.summary


def test_windows_hide_what_is_far_and_not_a_side():
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, x):
            places = torch.arange(x.shape[1])
            return self.layer(x, src_mask=(places[:, None] - places).abs() > 2)

    assert bidirectional(Local(), assume={"window": 3}).verdict == "pass"
    assert bidirectional(Local()).verdict == "fail"


def test_attention_that_adds_nothing_could_not_be_tested(small):
    model = small("bert")
    for layer in model.encoder.layer:
        nn.init.zeros_(layer.attention.output.dense.weight)

    assert bidirectional(model).verdict == "could not test"


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ({"is_causal": False}, "config.is_causal is False"),
    ],
)
def test_a_decoder_that_is_configured_to_read_both_sides_is_one(sizes, why):
    report = check(family("llama", **sizes), fast=True, rules=["bidirectional"])

    assert report["bidirectional"].verdict == "pass"
    assert any(line.startswith("causal = False") and why in line for line in report.assumptions)


def test_a_family_that_fills_in_masks_is_bidirectional_whatever_a_layer_says(small):
    model = small("bert")
    model.encoder.layer[0].attention.self.is_causal = True

    report = check(model, fast=True, rules=["bidirectional"])

    assert report["bidirectional"].case.layer == "encoder.layer.0.attention.self"
    assert any("bert models are trained to fill in masked tokens" in line for line in report.assumptions)


def test_the_reproduction_reproduces(attend):
    def causal(query, key, value):
        return attend()(query, key, value, is_causal=True)

    said = []

    exec(bidirectional(causal, assume={"causal": False}).reproduction, {"causal": causal, "print": said.append})

    assert said == [0]
