"""With a cache as without: positions, keys and masks of each step."""

import torch

from regard.conformance import check


def test_a_right_cache_passes_in_three_ways(small):
    outcome = check(small("llama"), rules=["cache"])["cache"]

    assert outcome.verdict == "pass"
    assert outcome.ways == ("a prompt, then token by token", "token by token", "behind left padding")


def test_an_encoder_has_none(small):
    outcome = check(small("bert"), rules=["cache"])["cache"]

    assert outcome.verdict == "not applicable"
    assert "bidirectional" in outcome.summary


def late(module, kwargs):
    """Count positions of a step from one too few."""
    cache = kwargs.get("cache")
    cached = 0 if cache is None else cache.get_seq_length()
    if not cached or kwargs.get("position_ids") is not None:
        return {}
    return {"position_ids": (torch.arange(kwargs["input_ids"].shape[1]) + cached - 1)[None]}


def from_zero(module, kwargs):
    """Count positions of each call from zero."""
    return {"position_ids": torch.arange(kwargs["input_ids"].shape[1])[None]}


def test_positions_that_are_off_by_one_are_found(small, changed):
    model = small("gpt2")
    changed(model, late)

    report = check(model)

    assert report.failed == ["cache"]
    assert report["cache"].case.length == 2


def test_positions_that_start_again_are_found(small, changed):
    model = small("llama")
    changed(model.model, from_zero)

    assert check(model).failed[0] == "cache"


def test_a_fault_behind_left_padding_alone_is_said_to_be_there(small, changed):
    def forgets_padding(module, kwargs):
        mask = kwargs.get("attention_mask")
        cached = kwargs.get("cache") is not None and kwargs["cache"].get_seq_length() > 0
        return {"attention_mask": torch.ones_like(mask)} if mask is not None and cached else {}

    model = small("llama")
    changed(model, forgets_padding)

    report = check(model)

    assert report.failed == ["cache"]
    assert "behind left padding it is not" in report["cache"].meaning


def test_the_reproduction_reproduces(small, changed):
    model = small("gpt2")
    changed(model, late)
    code = check(model, rules=["cache"])["cache"].reproduction
    said: list[torch.Tensor] = []

    exec(code, {"model": model, "print": said.append})

    assert said[0] > 1e-4
