"""Roles: queries, keys and values come from the projections of their names."""

import pytest
from torch import nn
from torch.nn import functional as F

from regard.conformance import check
from regard.conformance.families import family
from regard.conformance.rules.roles import _role


def roles(subject):
    return check(subject, rules=["roles"])["roles"]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("encoder.layer.0.attention.self.query", "query"),
        ("k_proj", "key"),
        ("toV", "value"),
        ("wq", "query"),
        ("v_lin", "value"),
        ("query_key_value", None),
        ("qkv", None),
        ("c_attn", None),
        ("key.dense", None),
        ("", None),
    ],
)
def test_the_last_part_of_a_name_says_the_role_or_none(name, role):
    assert _role(name) == role


def test_functions_modules_and_models_pass(attend, faulty):
    for subject in (attend(), faulty(), family("llama"), family("qwen3"), family("t5")):
        assert roles(subject).verdict == "pass"


def test_one_projection_for_all_says_nothing():
    assert "made by c_attn together" in roles(family("gpt2")).summary
    assert "without names" in roles(nn.MultiheadAttention(16, 4)).summary


def test_keys_that_ask_are_found_in_a_function():
    def turned(query, key, value):
        return F.scaled_dot_product_attention(key, query, value)

    outcome = roles(turned)
    said = []

    exec(outcome.reproduction, {"turned": turned, "print": said.append})

    assert "not at 2 alone" in outcome.summary
    assert said[0] > 1e-3


@pytest.mark.parametrize(("role", "other"), [("query", "key"), ("key", "query"), ("value", "key")])
def test_another_projection_is_named(faulty, role, other):
    class Exchanged(faulty):
        def forward(self, x, context=None, *, key_padding_mask=None):
            projections = {one: getattr(self, one) for one in ("query", "key", "value")}
            projections[role] = projections[other]
            heads = {one: p(x).unflatten(-1, (4, -1)).transpose(1, 2) for one, p in projections.items()}
            return self.output(F.scaled_dot_product_attention(**heads).transpose(1, 2).flatten(2))

    assert roles(Exchanged()).summary == f"the module: its {role} is what {other} made"


def test_keys_that_are_values_on_purpose_are_no_exchange():
    class Shared(nn.Module):
        """Attention without a projection of values: keys are mixed."""

        def __init__(self):
            super().__init__()
            self.q_proj, self.k_proj, self.o_proj = (nn.Linear(16, 16) for _ in range(3))

        def forward(self, x):
            query, key = (p(x).unflatten(-1, (4, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj))
            return self.o_proj(F.scaled_dot_product_attention(query, key, key).transpose(1, 2).flatten(2))

    assert roles(Shared()).verdict == "pass"


def test_queries_and_keys_of_the_same_norm_are_no_exchange():
    """After a norm without weights every query has the norm of every key."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(16, 16) for _ in range(4))
            self.q_norm, self.k_norm = (nn.RMSNorm(4, eps=1e-30) for _ in range(2))

        def forward(self, x):
            query, key, value = (p(x).unflatten(-1, (4, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
            heads = (one.transpose(1, 2) for one in (self.q_norm(query), self.k_norm(key), value))
            return self.o_proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))

    assert roles(Normed()).verdict == "pass"
