"""Injected faults get the right cause, layer and head; healthy training gets silence; nothing changes."""

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
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PreTrainedModel

import regard
from regard._errors import ArgumentError, NumericError, RegardError
from regard.modules import MultiHeadAttention
from regard.observe import AttentionCall, Finding, GuardLimits, first_nonfinite, guard, taps, watch

HEADS, WIDTH = 4, 32
HEAD_DIM = WIDTH // HEADS
HALF = torch.finfo(torch.float16).max


def bert(implementation: str, dtype: torch.dtype = torch.float32) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=64,
        attention_probs_dropout_prob=0.0,
    )
    return _ready(BertModel(config, add_pooling_layer=False), implementation, dtype)


def gpt2(implementation: str, dtype: torch.dtype = torch.float32) -> GPT2Model:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=WIDTH, n_layer=3, n_head=HEADS, attn_pdrop=0.0)
    return _ready(GPT2Model(config), implementation, dtype)


def llama(implementation: str, dtype: torch.dtype = torch.float32) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
    )
    return _ready(LlamaModel(config), implementation, dtype)


def _ready(model: PreTrainedModel, implementation: str, dtype: torch.dtype) -> PreTrainedModel:
    model.set_attn_implementation(implementation)
    return model.to(dtype).eval()


def encoder(num_layers: int = 2) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 64, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


class BiasedAttention(nn.Module):
    """Fused attention whose bias is given, (heads, len, len)."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(2, (3, HEADS, HEAD_DIM)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


class Biased(nn.Module):
    """Layers of it."""

    def __init__(self, num_layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(BiasedAttention() for _ in range(num_layers))

    def forward(self, x: Tensor, biases: list[Tensor]) -> Tensor:
        for layer, bias in zip(self.layers, biases, strict=True):
            x = x + layer(x, bias)
        return x


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


def scale_head(head: int, factor: float, *projections: nn.Linear) -> None:
    """Multiply the rows of one head in a projection."""
    with torch.no_grad():
        for projection in projections:
            projection.weight[head * HEAD_DIM : (head + 1) * HEAD_DIM] *= factor


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    place = f"layer {finding.layer}" if finding.layer else "the model's own attention"
    assert f"Step {finding.step}, {place}" in finding.sentence
    return finding


def summary(finding: Finding) -> tuple[str, str, tuple[int, ...]]:
    return finding.cause, finding.layer, finding.heads


# fault 1: raw scores beyond float16


def test_overflow_of_raw_scores_in_float16_is_named(ids: Tensor) -> None:
    model = bert("eager", torch.float16)
    attention = model.encoder.layer[1].attention.self
    scale_head(2, 2000, attention.query, attention.key)

    with guard(model) as guarding:
        output = model(ids).last_hidden_state

    assert output.isnan().any()
    finding = only(guarding.findings)
    assert summary(finding) == ("score_overflow", "encoder.layer.1.attention.self", (2,))
    assert finding.value > finding.limit == HALF
    assert finding.step == 1
    assert "float16" in finding.sentence


def test_overflow_is_before_the_scaling_in_post_scaled_order_and_gone_in_pre_scaled(ids: Tensor) -> None:
    """The same numbers: divided by √head_dim after the product they overflow, before it they fit."""

    class Attention(nn.Module):
        def __init__(self, pre: bool) -> None:
            super().__init__()
            self.pre = pre

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            scores = (q / 8) @ k.mT if self.pre else q @ k.mT / 8
            return scores.softmax(-1) @ k

    q = torch.full((1, 2, 5, 64), 1.0).half()
    q[:, 1] = 40.0  # 64 · 1,600 = 102,400; divided by 8 it is 12,800
    for pre in (False, True):
        model = nn.Sequential(Attention(pre))
        with guard(model[0]) as guarding:
            output = model[0](q, q)
        assert bool(output.isfinite().all()) == pre
        faults = [finding for finding in guarding.findings if not finding.is_warning]
        assert [(fault.cause, fault.heads, fault.value) for fault in faults] == (
            [] if pre else [("score_overflow", (1,), 102_400)]
        )


def test_fused_kernels_in_float16_keep_their_scores_in_float32_and_are_not_blamed(ids: Tensor) -> None:
    model = bert("sdpa", torch.float16)
    attention = model.encoder.layer[1].attention.self
    scale_head(2, 300, attention.query, attention.key)
    with guard(model, limits=GuardLimits(diverged=1e9, saturated_score=1e9)) as guarding:
        assert model(ids).last_hidden_state.isfinite().all()
    assert guarding.findings == []


# fault 2: rows that may attend to nothing


def test_an_empty_row_in_the_fast_path_is_named(x: Tensor) -> None:
    model = encoder().eval()
    padding = torch.zeros(3, 9, dtype=torch.bool)
    padding[1] = True
    with torch.no_grad(), guard(model) as guarding:
        output = model(x, src_key_padding_mask=padding)
    assert output.isnan().any()
    finding = only(guarding.findings)
    assert summary(finding) == ("empty_row", "layers.0.self_attn", (0, 1, 2, 3))
    assert finding.value == 9


def test_an_empty_row_of_one_head_with_weights_asked_for_is_named(x: Tensor) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = (nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) for _ in range(2))

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            x = x + self.first(x, x, x)[0]
            return x + self.second(x, x, x, attn_mask=mask)[0]

    mask = torch.zeros(3 * HEADS, 9, 9)
    mask[2 * HEADS + 1, 4] = -math.inf  # the third sequence, head 1, row 4
    model = Model()
    with guard(model) as guarding:
        model(x, mask)
    assert summary(only(guarding.findings)) == ("empty_row", "second", (1,))
    assert guarding.findings[0].value == 1


def test_empty_rows_that_a_kernel_answers_with_zero_are_no_fault(x: Tensor) -> None:
    model = Biased()
    bias = torch.zeros(HEADS, 9, 9)
    bias[1, 4] = -math.inf
    with guard(model) as guarding:
        assert model(x, [bias, bias]).isfinite().all()
    assert guarding.findings == []


# fault 3: inf - inf


def test_an_infinite_bias_is_named(x: Tensor) -> None:
    bias = torch.zeros(HEADS, 9, 9)
    infinite = bias.clone()
    infinite[3, 2, 5] = math.inf
    model = Biased()
    with guard(model) as guarding:
        model(x, [bias, infinite])
    assert summary(only(guarding.findings)) == ("inf_minus_inf", "layers.1", (3,))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_infinite_query_is_named(ids: Tensor, implementation: str) -> None:
    model = bert(implementation, torch.float16)
    with torch.no_grad():
        model.encoder.layer[2].attention.self.query.weight[HEAD_DIM : 2 * HEAD_DIM, ::2] = 6e4
        with guard(model) as guarding:
            model(ids)
    finding = only([finding for finding in guarding.findings if not finding.is_warning])
    assert summary(finding) == ("inf_minus_inf", "encoder.layer.2.attention.self", (1,))
    assert finding.origin == "what the model does after the output of encoder.layer.1.attention.self, which was finite"
    assert "query holds" in finding.sentence


def test_a_mask_made_by_a_product_with_infinity_is_named() -> None:
    class Attention(nn.Module):
        def forward(self, q: Tensor, keep: Tensor) -> Tensor:
            scores = q @ q.mT / q.shape[-1] ** 0.5 + (1 - keep) * -math.inf  # 0 · inf
            return scores.softmax(-1) @ q

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing = Attention()

        def forward(self, q: Tensor, keep: Tensor) -> Tensor:
            return self.mixing(q, keep)

    model = Model()
    with guard(model) as guarding:
        model(torch.randn(1, 2, 5, 8), torch.ones(5, 5))
    finding = only(guarding.findings)
    assert summary(finding) == ("inf_minus_inf", "mixing", (0, 1))
    assert "NaN" in finding.sentence


# fault 4: saturated softmax


@pytest.mark.parametrize(
    ("build", "implementation", "layer"),
    [(gpt2, "sdpa", "h.1.attn"), (gpt2, "eager", "h.1.attn"), (llama, "sdpa", "layers.1.self_attn")],
)
def test_a_saturated_softmax_is_warned_of(
    build: Callable[[str], PreTrainedModel], implementation: str, layer: str, ids: Tensor
) -> None:
    model = build(implementation)
    attention = model.get_submodule(layer)
    with guard(model, every=1) as guarding:
        model(ids)
        assert guarding.findings == []
        with torch.no_grad():
            if build is gpt2:  # columns of one weight: query, key, value
                attention.c_attn.weight[:, 2 * HEAD_DIM : 3 * HEAD_DIM] *= 1e5
            else:
                attention.q_proj.weight[2 * HEAD_DIM : 3 * HEAD_DIM] *= 1e6
        for _ in range(5):
            model(ids)
    found = {finding.cause: finding for finding in guarding.findings}
    finding = found["saturated_softmax"]
    assert summary(finding) == ("saturated_softmax", layer, (2,))
    assert finding.step == 3, "two looks in a row"
    assert finding.is_warning
    assert finding.value >= finding.limit == 0.9
    assert len(guarding.findings) == len(found), "each once"


# fault 5: growing queries and keys


def grow(model: nn.Module, projections: list[nn.Linear], run: Callable[[], None], steps: int) -> None:
    for _ in range(steps):
        run()
        scale_head(3, 1.05, *projections)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_growing_queries_and_keys_are_warned_of_long_before_they_overflow(ids: Tensor, implementation: str) -> None:
    model = bert(implementation)
    attention = model.encoder.layer[0].attention.self
    scale_head(3, 8.0, attention.query, attention.key)
    with torch.no_grad(), guard(model) as guarding:
        grow(model, [attention.query, attention.key], lambda: model(ids), 120)
    finding = guarding.findings[0]
    assert summary(finding) == ("growing_scores", "encoder.layer.0.attention.self", (3,))
    assert 100 < finding.value < 200, "soon after τ"
    assert "10 % a step" in finding.sentence
    if implementation == "sdpa":
        assert "queries ×" in finding.sentence


def test_the_end_of_float16_is_warned_of_before_it_is_reached(ids: Tensor) -> None:
    model = bert("eager", torch.float16)
    attention = model.encoder.layer[1].attention.self
    scale_head(3, 200.0, attention.query, attention.key)
    with torch.no_grad(), guard(model, every=1) as guarding:
        grow(model, [attention.query, attention.key], lambda: model(ids), 60)
    of_layer = [finding for finding in guarding.findings if finding.layer == "encoder.layer.1.attention.self"]
    causes = [finding.cause for finding in of_layer]
    assert all(finding.heads == (3,) for finding in of_layer)
    assert causes.index("headroom") < causes.index("score_overflow")
    warned, failed = (of_layer[causes.index(cause)] for cause in ("headroom", "score_overflow"))
    assert failed.step - warned.step >= 5
    assert warned.value < HALF < failed.value
    assert causes.count("headroom") == causes.count("score_overflow") == 1


# what came from elsewhere


def test_what_came_from_upstream_is_placed_between_the_last_finite_layer_and_this_one(ids: Tensor) -> None:
    model = bert("sdpa", torch.float16)
    with torch.no_grad():
        model.encoder.layer[0].intermediate.dense.weight[:, ::2] = 6e4
        with guard(model) as guarding:
            model(ids)
    finding = only(guarding.findings)
    assert summary(finding)[:2] == ("upstream", "encoder.layer.1.attention.self"), "what follows from it is not told"
    assert finding.origin == "what the model does after the output of encoder.layer.0.attention.self, which was finite"
    assert first_nonfinite(model, ids) == "encoder.layer.0.intermediate.dense"


def test_an_input_that_is_not_finite_is_named(x: Tensor) -> None:
    x[1, 2, 3] = math.nan
    model = encoder().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with guard(model) as guarding:
        model(x)
    assert summary(only(guarding.findings)) == ("upstream", "layers.0.self_attn", (0, 1, 2, 3))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_parameter_that_is_not_finite_is_named_with_its_head(ids: Tensor, implementation: str) -> None:
    model = llama(implementation)
    with torch.no_grad():
        model.layers[1].self_attn.q_proj.weight[HEAD_DIM + 1, 4] = math.nan
        with guard(model) as guarding:
            model(ids)
    finding = only(guarding.findings)
    assert summary(finding) == ("parameter", "layers.1.self_attn", (1,))
    assert finding.origin == "the parameter layers.1.self_attn.q_proj.weight"
    assert finding.value == 1


def test_a_parameter_before_the_layer_is_named_and_one_behind_it_is_not(ids: Tensor) -> None:
    model = gpt2("sdpa")
    with torch.no_grad():
        model.h[0].mlp.c_fc.bias[3] = math.inf
        model.h[2].mlp.c_fc.bias[3] = math.nan
        with guard(model) as guarding:
            model(ids)
    finding = only(guarding.findings)
    assert summary(finding)[:2] == ("parameter", "h.1.attn")
    assert finding.origin == "the parameter h.0.mlp.c_fc.bias"


# silence


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
