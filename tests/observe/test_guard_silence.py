"""What a guard leaves alone: healthy training, outputs, fast paths, other people's exceptions."""

import copy
import logging
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

import regard
from regard._errors import ArgumentError, NumericError, RegardError
from regard.modules import MultiHeadAttention
from regard.observe import AttentionCall, GuardLimits, guard, taps, watch

from .guarded import (
    HEADS,
    WIDTH,
    Biased,
    bert,
    encoder,
    gpt2,
    llama,
    only,
    scale_head,
    summary,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of this size are slower on several cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 50, (2, 11), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 9, WIDTH, generator=torch.Generator().manual_seed(1))


class Retriever(nn.Module):
    """Learns to answer with the value that stands behind a key: heads must become sharp."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(24, WIDTH)
        self.position = nn.Parameter(torch.randn(16, WIDTH) * 0.2)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, dropout=0.0, norm_first=True, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.answer = nn.Linear(WIDTH, 24)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        return self.answer(self.encoder(x)[:, -1])


def retrieval() -> tuple[Tensor, Tensor]:
    """Return sequences ``key value key value … key`` and the value that belongs to the last key."""
    keys = torch.rand(16, 12).argsort(1)[:, :5]
    values = torch.randint(12, 24, (16, 5))
    asked = torch.randint(0, 5, (16, 1))
    ids = torch.cat([torch.stack([keys, values], 2).flatten(1), keys.gather(1, asked)], 1)
    return ids, values.gather(1, asked)[:, 0]


def test_a_thousand_healthy_training_steps_raise_no_alarm() -> None:
    model = Retriever()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    with guard(model) as guarding:
        for _ in range(1000):
            ids, answers = retrieval()
            loss = F.cross_entropy(model(ids), answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert guarding.step == 1000
    assert all(entry.calls == 1000 for entry in guarding.coverage())
    assert guarding.findings == []
    assert losses[0] > 2.5
    assert sum(losses[-50:]) / 50 < 1.7, "it learned"


def test_a_sink_is_no_saturation(x: Tensor) -> None:
    """All weight of a head lies on the first key, with large scores: that is how models say nothing."""
    model = Biased(1)
    bias = torch.zeros(HEADS, 9, 9)
    bias[2, :, 0] = 200.0
    with guard(model, every=1) as guarding:
        for _ in range(4):
            model(x, [bias])
    assert guarding.findings == []


def test_scores_that_are_large_and_steady_are_no_growth(ids: Tensor) -> None:
    model = bert("sdpa")
    attention = model.encoder.layer[1].attention.self
    scale_head(2, 30, attention.query, attention.key)
    with torch.no_grad(), guard(model, every=1, limits=GuardLimits(saturated_score=1e9)) as guarding:
        for _ in range(40):
            model(torch.randint(0, 50, (2, 11)))
    assert guarding.findings == []


# nothing changes


@pytest.mark.parametrize("build", [bert, gpt2, llama])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_outputs_and_gradients_are_bit_identical(
    build: Callable[[str], PreTrainedModel], implementation: str, ids: Tensor
) -> None:
    plain = build(implementation).train()
    guarded = copy.deepcopy(plain)
    torch.manual_seed(3)
    expected = plain(ids).last_hidden_state
    expected.square().sum().backward()
    torch.manual_seed(3)
    with guard(guarded, every=1) as guarding:
        output = guarded(ids).last_hidden_state
        output.square().sum().backward()
    assert torch.equal(output, expected)
    for one, other in zip(plain.parameters(), guarded.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)
    assert guarding.findings == []
    assert all(entry.calls == 1 for entry in guarding.coverage())


def test_the_fast_path_stays_on(x: Tensor) -> None:
    model = encoder().eval()
    with torch.no_grad():
        expected = model(x)
        with guard(model) as guarding:
            output = model(x)
    assert torch.equal(output, expected)
    assert all(set(entry.kernels) == {taps.FAST_PATH} for entry in guarding.coverage())


def test_autocast_and_checkpointing_count_each_call_once(x: Tensor) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(MultiHeadAttention(WIDTH, HEADS) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + checkpoint(layer, x, use_reentrant=False)
            return x

    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with guard(model, on="raise", every=1) as guarding:
        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert {entry.layer: entry.calls for entry in guarding.coverage()} == {"layers.0": 3, "layers.1": 3}
    assert guarding.findings == []


def test_nothing_stays_behind(x: Tensor) -> None:
    model = encoder()
    before = len(_global_optimizer_pre_hooks)
    with guard(model):
        model(x)
        assert taps._TAPS.listeners
        assert len(_global_optimizer_pre_hooks) == before + 1
    assert not taps._TAPS.listeners
    assert len(_global_optimizer_pre_hooks) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_an_exception_of_the_model_passes_through_and_leaves_nothing_behind(x: Tensor) -> None:
    class Breaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = MultiHeadAttention(WIDTH, HEADS)

        def forward(self, x: Tensor) -> Tensor:
            self.attention(x)
            raise KeyError("the model's own")

    model = Breaking()
    with pytest.raises(KeyError, match="the model's own"), guard(model, on="raise"):
        model(x)
    assert not taps._TAPS.listeners
    assert not model._forward_hooks


def test_guard_and_watch_see_the_same_calls(x: Tensor) -> None:
    model = encoder()
    with guard(model) as guarding, watch(model, ["entropy"]) as view:
        model(x)
    assert [entry.calls for entry in guarding.coverage()] == [entry.calls for entry in view.coverage()] == [1, 1]


# how it tells


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_raise_stops_the_forward_where_the_fault_is(ids: Tensor, implementation: str) -> None:
    model = llama(implementation)
    with torch.no_grad():
        model.layers[1].self_attn.k_proj.weight[3, 4] = math.nan
    ran = []
    model.layers[1].mlp.register_forward_hook(lambda *_: ran.append("mlp"))
    with pytest.raises(NumericError, match=r"layers\.1\.self_attn, heads 0-1") as raised, guard(model, on="raise"):
        model(ids)
    assert isinstance(raised.value, RegardError)
    assert ran == []
    assert not taps._TAPS.listeners
    with torch.no_grad():
        model.layers[1].self_attn.k_proj.weight[3, 4] = 0.0
        assert model(ids).last_hidden_state.isfinite().all(), "the model runs as before"


def test_raise_comes_out_of_the_fast_path(x: Tensor) -> None:
    model = encoder().eval()
    padding = torch.ones(3, 9, dtype=torch.bool)
    with torch.no_grad(), pytest.raises(NumericError, match="may attend to nothing"), guard(model, on="raise"):
        model(x, src_key_padding_mask=padding)
    assert not taps._TAPS.listeners


def test_a_model_that_is_one_attention_module_is_guarded_without_a_hook(x: Tensor) -> None:
    """PyTorch leaves its fast path when a hook sits on this class."""
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    x = x.clone()
    with torch.no_grad(), guard(model) as guarding:
        expected = model(x, x, x, need_weights=False)[0]
        padding = torch.zeros(3, 9, dtype=torch.bool)
        padding[2] = True
        model(x, x, x, key_padding_mask=padding, need_weights=False)
        assert not model._forward_hooks
        assert not model._forward_pre_hooks
    with torch.no_grad():
        assert torch.equal(model(x, x, x, need_weights=False)[0], expected)
    finding = only(guarding.findings)
    assert (finding.step, finding.cause, finding.heads, finding.value) == (2, "empty_row", (0, 1, 2, 3), 9)


def test_a_softmax_without_a_product_is_judged_when_the_forward_ends() -> None:
    class Attention(nn.Module):
        def forward(self, scores: Tensor) -> Tensor:
            return scores.softmax(-1)

    scores = torch.zeros(1, 2, 3, 3)
    scores[0, 1, 2] = -math.inf
    model = Attention()
    with pytest.raises(NumericError, match=r"head 1: 1 query row may attend to nothing"), guard(model, on="raise"):
        model(scores)


def test_warnings_do_not_raise(ids: Tensor) -> None:
    model = bert("sdpa")
    scale_head(0, 1000, model.encoder.layer[0].attention.self.query)
    scale_head(0, 1000, model.encoder.layer[0].attention.self.key)
    with guard(model, on="raise") as guarding:
        model(ids)
    assert only(guarding.findings).cause == "growing_scores"


def test_a_finding_is_an_event_of_the_log(ids: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    model = llama("sdpa")
    with torch.no_grad():
        model.layers[1].self_attn.q_proj.weight[0, 0] = math.inf
    with caplog.at_level(logging.WARNING, "regard.guard"), guard(model) as guarding:
        for _ in range(3):
            model(ids)
    (record,) = caplog.records
    assert (record.message, record.levelname, record.name) == ("alert", "WARNING", "regard.guard")
    assert (record.step, record.layer, record.heads, record.cause) == (1, "layers.1.self_attn", [0], "parameter")
    assert record.reason == only(guarding.findings).sentence


def test_a_fault_is_told_again_after_it_has_cleared(x: Tensor) -> None:
    model = Biased(1)
    healthy, broken = torch.zeros(HEADS, 9, 9), torch.zeros(HEADS, 9, 9)
    broken[0, 0, 0] = math.inf
    with guard(model) as guarding:
        for bias in [broken, broken, *[healthy] * 7, broken, *[healthy] * 8, broken]:
            model(x, [bias])
    assert [finding.step for finding in guarding.findings] == [1, 19]


def test_steps_can_be_named(x: Tensor) -> None:
    model = Biased(1)
    broken = torch.full((HEADS, 9, 9), math.inf)
    with guard(model) as guarding:
        guarding.at(70)
        model(x, [broken])
    assert only(guarding.findings).step == 70


def test_only_chosen_layers_are_judged(x: Tensor) -> None:
    model, broken = Biased(), torch.full((HEADS, 9, 9), math.inf)
    with guard(model, layers=["layers.1"]) as guarding:
        model(x, [broken, torch.zeros(HEADS, 9, 9)])
    assert only(guarding.findings).layer == "layers.1"


def test_attention_shown_by_an_adapter_is_judged() -> None:
    class Mixer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    def report(module: nn.Module, args: tuple[Tensor], kwargs: dict[str, object], result: Tensor) -> AttentionCall:
        return AttentionCall(query=args[0][:, None], key=args[0][:, None], output=result[:, None], kernel="mixer")

    x = torch.randn(1, 4, 8)
    x[0, 2, 1] = math.nan
    model = nn.Sequential(Mixer())
    with guard(model, adapters={Mixer: report}) as guarding:
        model(x)
    assert summary(only(guarding.findings)) == ("upstream", "0", (0,))
    assert "the model's input" in str(guarding.findings[0].origin)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"on": "log"}, 'on must be "warn" or "raise"'), ({"every": 0}, "every must be a positive number of steps")],
)
def test_arguments_that_cannot_mean_anything_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        guard(nn.Identity(), **arguments)


def test_a_guard_cannot_start_twice() -> None:
    guarding = guard(nn.Identity()).start()
    with pytest.raises(ArgumentError, match="stopped before it starts again"):
        guarding.start()
    guarding.stop()
    guarding.stop()


def test_it_is_a_name_of_the_package() -> None:
    assert regard.guard is guard
