"""Scale: measured in functions, in each head of modules, and allowed where a model declares another one."""

import math

import pytest
import torch

from regard.conformance import check
from regard.conformance.families import family

FACTORS = {"unscaled": "not scaled at all", "scaled by embed_dim": "1/√embed_dim", "square": "1/head_dim"}


def test_the_right_scale_passes(attend):
    assert check(attend(), rules=["scale"])["scale"].verdict == "pass"


@pytest.mark.parametrize("fault", FACTORS)
def test_a_wrong_scale_is_named_first_and_said_in_words(attend, fault):
    report = check(attend(fault))

    assert report.failed[0] == "scale"
    assert FACTORS[fault] in report["scale"].summary


def test_an_ignored_argument_is_found(attend):
    report = check(attend("scale ignored"))

    assert report.failed[0] == "scale"
    assert "though scale=0.3 was given" in report["scale"].summary


def test_another_scale_on_purpose_is_told(attend):
    assert check(lambda query, key, value: (query @ key.mT).softmax(-1) @ value, assume={"scale": 1.0}).ok


def test_one_head_of_a_module_is_located(faulty):
    report = check(faulty("one head unscaled"))

    assert report.failed == ["scale"]
    assert report["scale"].case.head == 1
    assert check(faulty()).ok


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_one_layer_of_a_model_is_located(small, impl):
    model = small("gpt2", impl)
    model.transformer.h[1].attn.scaling = 1.0

    report = check(model)

    assert report.failed == ["scale"]
    assert report["scale"].case.layer == "transformer.h.1.attn"
    assert report["scale"].measured == pytest.approx(torch.tensor(8.0).sqrt().item() - 1)


def test_scaling_twice_is_found(small):
    model = small("llama")
    model.model.layers[0].self_attn.scaling *= 8**-0.5

    assert "1/head_dim" in check(model, rules=["scale"])["scale"].summary


def test_a_declared_scale_is_taken_from_the_configuration(small):
    model = small("gemma2", "eager")  # query_pre_attn_scalar is 256, head_dim is 8

    report = check(model, rules=["scale"])

    assert report.ok
    assert any("query_pre_attn_scalar" in line for line in report.assumptions)


YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 8.0, "original_max_position_embeddings": 32}
LONG = {**YARN, "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("rope", "factor"),
    [
        (YARN, 0.1 * math.log(8) + 1),
        ({**YARN, "attention_factor": 1.5}, 1.5),
        ({**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}, (0.07 * math.log(8) + 1) / (0.1 * math.log(8) + 1)),
        (LONG, math.sqrt(1 + math.log(8) / math.log(32))),
    ],
)
def test_the_attention_factor_of_rotary_positions_is_no_wrong_scale(impl, rope, factor):
    model = family("llama", impl=impl, rope_parameters=rope, max_position_embeddings=256)
    report = check(model, rules=["scale"])

    assert report["scale"].verdict == "pass"
    assert f"times {factor:.4g}², the declared attention factor" in report["scale"].summary

    model.model.rotary_emb.attention_scaling = 1.0

    assert check(model, rules=["scale"]).failed == ["scale"]
    assert check(model, rules=["scale"], assume={"attention_factors": (1.0,)}).ok


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_pruned_heads_have_no_scale_and_raise_no_alarm(impl):
    model = family("bert", impl=impl)
    attention = model.encoder.layer[0].attention.self
    with torch.no_grad():
        for projection in (attention.query, attention.key, attention.value):
            projection.weight[8:24], projection.bias[8:24] = 0, 0
    report = check(model, fast=True, rules=["scale", "grouped_heads", "roles"])

    assert report.ok
    assert "in 6 heads" in report["scale"].summary
