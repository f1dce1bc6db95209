"""Injected faults get the right cause, layer and head; healthy training gets silence; nothing changes."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from regard.observe import GuardLimits, first_nonfinite, guard

from .guarded import HALF, HEAD_DIM, HEADS, WIDTH, Biased, bert, encoder, gpt2, llama, only, scale_head, summary


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
