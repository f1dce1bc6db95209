"""The causal corner with fewer queries than keys."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from regard.conformance import check


def test_the_bottom_right_passes(attend, small):
    assert check(attend(), rules=["causal_corner"])["causal_corner"].verdict == "pass"
    assert check(small("llama"), rules=["causal_corner"])["causal_corner"].verdict == "pass"


def test_the_top_left_of_a_function_is_a_failure(attend):
    report = check(attend("top left"))

    assert report.failed == ["causal_corner"]
    assert "top left" in report["causal_corner"].summary


def test_the_top_left_of_pytorch_is_a_documented_deviation():
    report = check(scaled_dot_product_attention)

    assert report["causal_corner"].verdict == "deviation"
    assert report.ok


def test_a_refusal_is_no_failure(attend):
    def strict(query, key, value, is_causal=False):
        if is_causal and query.shape[-2] != key.shape[-2]:
            raise ValueError("lengths must match")
        return attend()(query, key, value, is_causal=is_causal)

    assert check(strict, rules=["causal_corner"])["causal_corner"].verdict == "not applicable"


def test_a_square_triangle_after_a_cache_is_located(small, changed):
    def top_left(module, kwargs):
        queries = kwargs["hidden_states"].shape[1]
        cached = kwargs["past_key_values"].get_seq_length(module.layer_idx) if kwargs.get("past_key_values") else 0
        keep = torch.ones(queries, queries + cached, dtype=torch.bool).tril()
        return {"attention_mask": keep[None, None]}

    model = small("llama")
    changed(model.model.layers[1].self_attn, lambda module, kwargs: top_left(module, _with_cache(kwargs)))

    report = check(model)

    assert report.failed[0] == "causal_corner"
    assert report["causal_corner"].case.layer == "model.layers.1.self_attn"
    assert "not itself" in report["causal_corner"].summary


def _with_cache(kwargs):
    cache = kwargs.get("cache", kwargs.get("past_key_values"))
    return {**kwargs, "past_key_values": cache}
