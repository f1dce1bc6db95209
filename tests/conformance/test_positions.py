"""Positions: equivariant without them, not with them."""

import torch
from torch import nn

from regard.conformance import check


def test_a_function_knows_no_order(attend):
    assert "equivariant" in check(attend(), rules=["positions"])["positions"].summary


def test_a_function_that_mixes_neighbours_is_found(attend):
    report = check(attend("neighbours mixed"))

    assert "positions" in report.failed
    assert "though without a mask has no positions (3 tokens are enough)" in report["positions"].summary


def test_positions_of_models_are_seen(small):
    for family in ("bert", "gpt2", "llama"):
        assert "knows the order" in check(small(family), rules=["positions"])["positions"].summary


def test_lost_positions_are_found(small):
    model = small("bert")
    nn.init.zeros_(model.embeddings.position_embeddings.weight)

    report = check(model)
    said = []

    exec(report["positions"].reproduction, {"model": model, "print": said.append})

    assert report.failed == ["positions"]
    assert report["positions"].case.length == 2
    assert said[0] < 1e-6
    assert check(model, assume={"positions": False}).ok


def test_lost_rotary_positions_are_found(small):
    model = small("llama")
    rotary = model.model.rotary_emb

    class Still(type(rotary)):
        def forward(self, x, position_ids):
            cos, sin = super().forward(x, position_ids)
            return torch.ones_like(cos), torch.zeros_like(sin)

    rotary.__class__ = Still

    report = check(model)

    assert report.failed == ["positions"]
    assert "(3 tokens are enough)" in report["positions"].summary


def test_rotary_positions_that_are_not_relative_are_shrunk(small):
    model = small("llama")
    rotary = model.model.rotary_emb

    class OtherPairs(type(rotary)):
        def forward(self, x, position_ids):
            return tuple(
                one[..., : one.shape[-1] // 2].repeat_interleave(2, -1) for one in super().forward(x, position_ids)
            )

    rotary.__class__ = OtherPairs

    outcome = check(model, rules=["positions"])["positions"]

    assert "though they are rotary" in outcome.summary
    assert outcome.case.length == 2
