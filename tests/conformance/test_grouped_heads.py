"""Grouped heads: repeated one after the other, in functions and in layers of models."""

from regard.conformance import check


def test_consecutive_heads_pass_in_two_ways(attend):
    outcome = check(attend(), rules=["grouped_heads"])["grouped_heads"]

    assert outcome.verdict == "pass"
    assert len(outcome.ways) == 2


def test_tiled_heads_of_a_function_are_found(attend):
    report = check(attend("tiled heads"))

    assert report.failed == ["grouped_heads"]
    assert "[0, 1, 0, 1]" in report["grouped_heads"].summary


def test_a_function_without_grouped_heads_is_not_asked():
    def plain(query, key, value):
        return (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1) @ value

    assert check(plain, rules=["grouped_heads"])["grouped_heads"].verdict == "not applicable"


def test_tiled_heads_of_a_model_are_located(small, monkeypatch):
    from transformers.models.llama import modeling_llama

    monkeypatch.setattr(modeling_llama, "repeat_kv", lambda states, group: states.repeat(1, group, 1, 1))

    report = check(small("llama", "eager"))

    assert report.failed[0] == "grouped_heads"
    assert report["grouped_heads"].case.layer == "model.layers.0.self_attn"
    assert report["grouped_heads"].case.head == 1


def test_grouped_heads_of_a_model_pass(small):
    assert "2 of them with shared key heads" in check(small("llama"), rules=["grouped_heads"])["grouped_heads"].summary
