"""``check`` itself: what it changes (nothing), what it takes, what it refuses, and how it ranks."""

import hashlib
import json
import sys
import weakref

import pytest
import torch
from torch import nn

import regard
from regard import RegardError
from regard.conformance import RULES, AttentionModule, Model, check
from regard.records import Checks

check_module = sys.modules["regard.conformance.check"]  # the function has its name in the package


def state_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    modes = [(name, one.training, len(one._forward_hooks)) for name, one in module.named_modules()]
    flags = [(name, one.requires_grad, one.grad is None) for name, one in module.named_parameters()]
    digest.update(repr((modes, flags)).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("family", ["gpt2", "mistral", "bart"])
def test_a_model_is_left_as_it_was(small, family):
    model = small(family).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.register_forward_hook(lambda *_: pytest.fail("the model itself was called"))
    before, states = state_hash(model), (torch.get_rng_state(), torch.get_num_threads())

    check(model)

    assert state_hash(model) == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.get_num_threads() == states[1]
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_watched_model_is_watched_on_as_if_nothing_had_been(small):
    model = small("gpt2").eval()
    ids = torch.arange(3, 9)[None]

    with regard.watch(model, ["entropy"]) as view, torch.no_grad():
        model(ids)
        check(model, fast=True, rules=["causality", "scale"])
        model(ids)

    assert [entry.calls for entry in view.coverage()] == [2, 2]
    assert {call["step"] for call in view.calls()} == {1, 2}


def test_the_same_seed_gives_the_same_report(attend):
    first, second = check(attend("unscaled")).to_dict(), check(attend("unscaled")).to_dict()

    for report in (first, second):
        report.pop("seconds")
        for rule in report["rules"]:
            rule.pop("seconds")
    assert first == second


def test_the_dictionary_is_json_and_reads_back(attend):
    report = check(attend("not causal"))

    text = json.dumps(report.to_dict(), allow_nan=False)

    assert Checks.model_validate_json(text) == report.record()
    assert report.to_dict()["rules"][0]["rule"] == "causality"


def test_every_rule_has_a_verdict_and_says_what_it_is(attend):
    report = check(attend())

    assert list(report.verdicts) != []
    assert set(report.verdicts) == {rule.id for rule in RULES}
    for rule in RULES:
        for name in ("title", "law", "why", "method", "tolerance", "meaning", "remedy"):
            assert len(getattr(rule, name)) > 10, f"{rule.id}.{name}"
        assert set(rule.after) < {other.id for other in RULES} - {rule.id}


def test_every_rule_has_its_row_in_the_documentation(root):
    rows = (root / "docs/check.md").read_text(encoding="utf-8")

    assert [rule.id for rule in RULES if f"| `{rule.id}` |" not in rows] == []


def test_the_copy_of_a_large_model_is_freed(small, monkeypatch):
    copies: list[weakref.ref[nn.Module]] = []
    recognise = check_module.recognise

    def remembered(*arguments):
        known = recognise(*arguments)
        copies.append(weakref.ref(known.copy))
        return known

    monkeypatch.setattr(check_module, "recognise", remembered)
    monkeypatch.setattr(check_module, "_SMALL", 0)

    check(small("gpt2"), rules=["scale", "causality", "cache"])

    assert [copy() for copy in copies] == [None]


def test_some_rules_can_be_chosen_and_watched(attend):
    seen: list[str] = []

    report = check(attend(), rules=["scale", "softmax"], progress=seen.append)

    assert set(report.verdicts) == {"scale", "softmax"}
    assert len(seen) == 2


def test_the_cause_comes_before_what_it_causes(attend):
    report = check(attend("mask inverted"))

    assert report.failed[0] == "mask_sense"
    assert all(one.explained_by for one in report.checked if one.rule.id in report.failed[1:])


def test_the_text_begins_with_the_broken_rule_and_the_fix(attend):
    text = str(check(attend("unscaled")))

    first, rest = text.split("\n", 1)
    assert first == "attend (function): 3 rules are broken, first of all scale."
    assert rest.index("BROKEN scale") < rest.index("Fix:") < rest.index("Proved:")
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": ["speed"]}, "rules may be .*, got speed"),
        ({"assume": {"colour": 1}}, "assume may name .*, got colour"),
    ],
)
def test_unknown_names_are_refused(attend, arguments, message):
    with pytest.raises(RegardError, match=message):
        check(attend(), **arguments)


def test_what_cannot_be_called_is_refused_with_the_reason():
    with pytest.raises(RegardError, match="check must be able to call what it checks, got Conv2d: its forward takes"):
        check(nn.Conv2d(3, 3, 3))


def test_a_module_by_its_adapter():
    attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def call(module, x, keep, causal):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
        return module(x, x, x, attn_mask=later, need_weights=False)[0]

    report = check(AttentionModule(module=attention, call=call, embed_dim=16, num_heads=2, padding=False))

    assert report.ok
    assert report["causality"].verdict == report["scale"].verdict == "pass"
    assert report["padding"].verdict == "not applicable"


class Decoder(nn.Module):
    """A causal model with a cache of its own: one layer that keeps its past inputs."""

    def __init__(self, fault: bool = False) -> None:
        super().__init__()
        self.words, self.attention = nn.Embedding(20, 16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.fault = fault

    def forward(self, ids, cache=None):
        states = self.words(ids)
        whole = states if cache is None else torch.cat((cache, states), 1)
        kept = whole[:, 1:] if self.fault and cache is not None else whole
        later = torch.ones(states.shape[1], kept.shape[1], dtype=torch.bool).triu(kept.shape[1] - states.shape[1] + 1)
        return states + self.attention(states, kept, kept, attn_mask=later, need_weights=False)[0], whole


@pytest.mark.parametrize("fault", [False, True])
def test_a_cache_by_its_adapter(fault):
    subject = Model(
        module=Decoder(fault),
        call=lambda module, ids, keep: module(ids)[0],
        vocab_size=20,
        causal=True,
        step=lambda module, ids, cache: module(ids, cache),
    )

    report = check(subject)

    assert report.failed == (["cache"] if fault else [])


def test_an_encoder_of_pytorch():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    report = check(nn.TransformerEncoder(layer, 2))

    assert report.failed == []
    assert report["scale"].verdict == "pass"
    assert report["padding"].verdict == "pass"
