"""A profile blames what takes the time, and its parts come to the whole."""

import itertools

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, UnsupportedError
from regard.cost import Account, Operation, Part, Phase, Profile, Timing, Workload, advice, call_of, profile, try_remedy
from regard.cost import ledger as ledger_module
from regard.cost.profile import BETWEEN


def stated(layer, shares, *, whole=1.0):
    """Return a profile of a layer at width 768 and 512 tokens that took ``shares`` of the time."""
    flops = {Part.FEED_FORWARD: 12, Part.PROJECTIONS: 6, Part.CORE: 2}
    operations = [
        Operation(
            operator="aten.op", phase=Phase.FORWARD, module="", part=part, seconds=share, flops=flops.get(part, 0)
        )
        for part, share in shares.items()
    ]
    return Profile(
        workload=Workload(model=layer, inputs=call_of(layer), length=512),
        account=Account(operations=operations),
        whole=Timing(samples=[whole]),
        threads=1,
    )


def test_attention_is_not_blamed_where_its_core_is_a_tenth(layer):
    found = stated(layer(), {Part.FEED_FORWARD: 0.55, Part.PROJECTIONS: 0.28, Part.CORE: 0.12, Part.NORMS: 0.05})

    assert found.rows[0].part == Part.FEED_FORWARD
    assert found.verdict().startswith("Feed-forward takes most: 55% of the time, 60% of the operations.")
    assert found.verdict().endswith("10% of the operations; it would do half of them at 4,608 tokens.")
    for one in advice(found):
        assert one.at_most == 1.0 or one.at_most <= 0.13, "what touches the core alone can save no more than it takes"


def test_remedy_that_could_save_next_to_nothing_is_not_advised(layer):
    model = nn.Sequential(nn.Dropout(0.1), layer())

    assert [one.name for one in advice(stated(model, {Part.DROPOUT: 0.2, Part.FEED_FORWARD: 0.8}))].count(
        "fast-dropout"
    ) == 1
    assert "fast-dropout" not in [
        one.name for one in advice(stated(model, {Part.DROPOUT: 0.04, Part.FEED_FORWARD: 0.96}))
    ]


def test_what_no_operator_takes_is_a_part_of_its_own(layer):
    found = stated(layer(), {Part.FEED_FORWARD: 0.6}, whole=1.0)

    assert sum(row.seconds for row in found.rows) == pytest.approx(1.0)
    assert {row.part: row.time_share for row in found.rows}[BETWEEN] == pytest.approx(0.4)
    assert found.explained == pytest.approx(0.6)


@pytest.mark.parametrize("trains", [False, True])
def test_every_operator_is_timed_once(layer, trains, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(ledger_module.time, "perf_counter", lambda: float(next(ticks)))
    model = layer().train()
    before = {name: one.clone() for name, one in model.state_dict().items()}

    found = profile(Workload(model=model, inputs=call_of(model), length=8, trains=trains), rounds=3)

    # Between the two looks at the clock around an operator nobody else looks at it.
    timed = [one.seconds for one in found.account.operations if one.operator != "aten._transformer_encoder_layer_fwd"]
    assert set(timed) <= {1.0}
    assert {Part.PROJECTIONS, Part.CORE, Part.FEED_FORWARD} <= set(found.account.by_part())
    assert (Part.OPTIMIZER in found.account.by_part()) is trains
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items()), "a copy is trained"
    assert model.training


@pytest.mark.parametrize("name", ["attention-dropout", "fast-dropout", "threads", "float32"])
def test_remedy_is_taken_back(name):
    model = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    modules, threads = dict(model.named_modules()), torch.get_num_threads()
    found = profile(Workload(model=model, inputs=call_of(model), length=8, trains=True), rounds=3)

    outcome = try_remedy(found, name, rounds=3)

    assert outcome.ratio > 0
    assert dict(model.named_modules()) == modules
    assert model.self_attn.dropout == 0.1
    assert torch.get_num_threads() == threads


def test_fused_kernel_gives_the_same_result():
    from regard.modules import MultiHeadAttention

    model = MultiHeadAttention(32, 4, impl="reference")
    found = profile(Workload(model=model, inputs=call_of(model), length=16), rounds=3)
    outcome = try_remedy(found, "fused-kernel", rounds=3)

    assert found.account.kernels == {"products and softmax": 1}
    assert outcome.difference < 1e-5
    assert model.impl == "reference"


def test_remedy_that_cannot_be_applied_says_what_it_needs(layer):
    found = stated(layer(), {Part.FEED_FORWARD: 1.0})

    with pytest.raises(UnsupportedError, match="fused-kernel needs"):
        try_remedy(found, "fused-kernel", rounds=3)
    with pytest.raises(ArgumentError, match="must be one of fused-kernel"):
        try_remedy(found, "magic")
