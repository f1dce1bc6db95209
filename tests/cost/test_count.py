"""Operations equal the formulas of the literature, whatever computes them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from regard._errors import ArgumentError, UnsupportedError
from regard.cost import Holding, Part, Phase, count
from regard.modules import AdditiveAttention, FeedForward, MultiHeadAttention, ResidualAttention


def flops(found, phase=None):
    return {part: share.flops for part, share in found.by_part(phase).items() if share.flops}


@pytest.mark.parametrize("length", [1, 16, 100])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("training", [True, False])
def test_transformer_layer_equals_the_formulas(layer, length, width, training):
    batch, model = 3, layer(width).train(training)

    with torch.set_grad_enabled(training):  # without gradients this takes the C++ fast path, one operator
        found = count(model, torch.zeros(batch, length, width))

    assert flops(found) == {
        Part.PROJECTIONS: batch * 8 * length * width**2,
        Part.CORE: batch * 4 * length**2 * width,
        Part.FEED_FORWARD: batch * 16 * length * width**2,
    }
    assert found.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("length", "share"), [(128, 0.027), (512, 0.10), (4608, 0.50), (131_072, 0.966)])
def test_core_has_the_published_share_at_width_768(layer, length, share):
    found = count(layer(768, 12), torch.empty(1, length, 768, device="meta"))

    assert found.share("attention core") == pytest.approx(share, abs=5e-4)


def test_backward_is_twice_the_forward_except_where_scores_are_computed_again(layer):
    found = count(layer().train(), torch.zeros(2, 16, 32, requires_grad=True), backward=True)

    forward, backward = flops(found, Phase.FORWARD), flops(found, Phase.BACKWARD)
    assert backward[Part.PROJECTIONS] == 2 * forward[Part.PROJECTIONS]
    assert backward[Part.FEED_FORWARD] == 2 * forward[Part.FEED_FORWARD]
    assert backward[Part.CORE] == 2.5 * forward[Part.CORE]  # the fused kernel: five products instead of four
    assert found.by_part(Phase.BACKWARD)[Part.CORE].needed == 2 * forward[Part.CORE]


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": torch.zeros(32, 32)}])
def test_fused_attention_that_torch_counts_as_nothing_is_counted(options):
    class Attend(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x, **options)

    x = torch.randn(2, 3, 32, 8)
    with FlopCounterMode(display=False) as theirs:
        Attend()(x)

    assert theirs.get_total_flops() == 0, "PyTorch counts it by now: say so in docs/cost.md"
    assert count(Attend(), x).flops == 4 * 2 * 3 * 32 * 32 * 8


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_cells_equal_their_matrices_at_each_step(cell, bidirectional):
    model = cell(8, 16, num_layers=2, bidirectional=bidirectional, batch_first=True)
    matrices = sum(parameter.numel() for name, parameter in model.named_parameters() if "weight" in name)

    found = count(model, torch.zeros(3, 4, 8), backward=True)

    assert flops(found, Phase.FORWARD) == {Part.RECURRENT: 2 * 3 * 4 * matrices}
    assert set(flops(found)) == {Part.RECURRENT}
    assert sum(flops(found, Phase.BACKWARD).values()) <= 2 * 2 * 3 * 4 * matrices


def test_lstm_and_attention_of_width_64_have_the_published_counts():
    attention, lstm = nn.MultiheadAttention(64, 4, batch_first=True), nn.LSTM(64, 64, batch_first=True)
    expected = {64: (4.2e6, 3.1e6), 128: (8.4e6, 8.4e6), 16_384: (1074e6, 69_256e6)}

    for length, (recurrent, attended) in expected.items():
        x = torch.empty(1, length, 64, device="meta")
        assert count(lstm, x).flops == pytest.approx(recurrent, rel=0.02)
        assert count(attention, x, x, x, need_weights=False).flops == pytest.approx(attended, rel=0.02)


@pytest.mark.parametrize("impl", ["reference", "sdpa", "chunked", "native"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_backend_needs_the_same(impl, causal):
    if impl == "native":
        pytest.importorskip("regard_native", reason="needs regard-native: make native")
    model = MultiHeadAttention(32, 4, num_kv_heads=2, causal=causal, impl=impl)
    x = torch.randn(2, 48, 32)

    imagined, real = count(model, x, backward=True), count(model, x, backward=True, real=True)

    pairs = 2 * 4 * (48 * 49 // 2 if causal else 48 * 48)
    assert real.by_part(Phase.FORWARD)[Part.CORE].needed == 2 * 16 * pairs
    assert flops(imagined) == flops(real)
    assert imagined.share("projections") == real.share("projections")
    assert flops(imagined, Phase.FORWARD)[Part.PROJECTIONS] == 2 * 2 * 48 * (2 * 32 * 32 + 2 * 32 * 16)


def test_mask_of_eager_attention_is_read_where_the_model_runs():
    model = MultiHeadAttention(32, 4, impl="reference")
    padding = torch.arange(20)[None] >= torch.tensor([[20], [5]])
    x = torch.randn(2, 20, 32)

    found = count(model, x, key_padding_mask=padding, real=True)

    assert found.by_part()[Part.CORE].flops == 2 * 2 * 2 * 20 * 20 * 32
    assert found.by_part()[Part.CORE].needed == 2 * 2 * (20 * 20 + 20 * 5) * 32
    assert found.attention[0].mask_is_read


def test_additive_attention_has_its_network_in_the_core():
    found = count(AdditiveAttention(32, 16), torch.zeros(2, 50, 32))

    assert flops(found) == {
        Part.CORE: 2 * (2 * 50 * 50 * 16 + 2 * 50 * 50 * 32),
        Part.PROJECTIONS: 2 * 2 * 2 * 50 * 32 * 16,
    }


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_stack_with_embeddings_and_head_is_taken_apart(norm):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(100, 32)
            self.layers = nn.ModuleList(
                ResidualAttention(MultiHeadAttention(32, 4), FeedForward(32, 64), norm=norm) for _ in range(3)
            )
            self.norm = nn.LayerNorm(32)
            self.head = nn.Linear(32, 100)

        def forward(self, ids):
            x = self.words(ids)
            for one in self.layers:
                x = one(x)
            return self.head(self.norm(x))

    found = count(Model(), torch.zeros(2, 10, dtype=torch.int64), backward=True)

    forward = flops(found, Phase.FORWARD)
    assert forward == {
        Part.PROJECTIONS: 3 * 2 * 8 * 10 * 32**2,
        Part.CORE: 3 * 2 * 4 * 10**2 * 32,
        Part.FEED_FORWARD: 3 * 2 * 4 * 10 * 32 * 64,
        Part.OUTPUT: 2 * 2 * 10 * 32 * 100,
    }
    assert found.by_part(Phase.FORWARD)[Part.NORMS].num_operations == 7
    assert found.by_part(Phase.FORWARD)[Part.EMBEDDINGS].num_operations == 1
    assert {"layers.0", "layers.1", "layers.2", "words", "norm", "head"} <= set(found.by_module(2))


def test_a_step_of_a_checkpointed_model_counts_the_forward_twice(layer):
    inner = layer().train()

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    x = torch.zeros(2, 16, 32, requires_grad=True)
    plain, again = count(inner, x, backward=True), count(Checkpointed(), x, backward=True)

    for part in (Part.PROJECTIONS, Part.CORE, Part.FEED_FORWARD):
        forward = plain.by_part(Phase.FORWARD)[part].flops
        assert again.by_part()[part].flops == plain.by_part()[part].flops + forward


def test_counting_changes_nothing(layer):
    model = layer().train()
    model.linear1.weight.grad = torch.ones_like(model.linear1.weight)
    before, generator = {name: one.clone() for name, one in model.state_dict().items()}, torch.get_rng_state()

    for real in (False, True):
        count(model, torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0)), backward=True, real=real)

    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert torch.equal(model.linear1.weight.grad, torch.ones_like(model.linear1.weight))
    assert model.linear2.weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)


def test_operator_without_a_formula_is_named(layer):
    class Solve(nn.Module):
        def forward(self, x):
            return torch.linalg.qr(x).Q

    assert count(Solve(), torch.randn(4, 4)).uncounted == {"aten.linalg_qr": 1}
    assert count(layer(), torch.zeros(1, 4, 32)).uncounted == {}


def test_model_that_decides_by_numbers_says_how_to_count_it():
    class Decides(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            x = self.linear(x)
            return self.linear(x) if bool(x.sum() > 1e9) else x

    with pytest.raises(UnsupportedError, match="with real=True"):
        count(Decides(), torch.zeros(2, 4))

    assert count(Decides(), torch.zeros(2, 4), real=True).flops == 2 * 2 * 4 * 4


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_compiled_model_is_refused(layer):
    with pytest.raises(UnsupportedError, match="_orig_mod"):
        count(torch.compile(layer()), torch.zeros(1, 4, 32))


def test_backward_needs_a_gradient(layer):
    with torch.no_grad(), pytest.raises(ArgumentError, match=r"under torch\.no_grad"):
        count(layer(), torch.zeros(1, 4, 32), backward=True)
    with pytest.raises(ArgumentError, match="a result with a gradient"):
        count(layer().requires_grad_(False), torch.zeros(1, 4, 32), backward=True)


def test_table_and_json_say_the_same(layer):
    found = count(layer(), torch.zeros(1, 4, 32))

    assert found.to_dict()["flops"] == found.flops == sum(p["flops"] for p in found.to_dict()["parts"].values())
    assert "attention core" in str(found)
    assert f"{found.flops / 1e6:,.2f}" in str(found)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_recurrent_layer_keeps_its_gates_and_cells_for_the_way_back(num_layers):
    """oneDNN keeps five numbers for each of a state, in a buffer that shapes alone do not tell of."""
    x = torch.zeros(4, 64, 32, requires_grad=True)
    states = 4 * 64 * 32 * 4

    model = nn.LSTM(32, 32, num_layers, batch_first=True)
    trained = count(model, x, backward=True)
    with torch.no_grad():
        used = count(model.eval(), x)

    kept = num_layers * (5 + 1) * states  # with the states themselves
    assert trained.at_peak[Holding.ACTIVATIONS] >= kept
    assert trained.peak_bytes > kept + 9 * states
    assert used.peak_bytes < 8 * states
