"""Watching changes nothing, names every call, and says what it did not see."""

import gc
import weakref
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import regard
from regard._errors import ArgumentError, RecordError, RegardError
from regard.modules import MultiHeadAttention
from regard.observe import STATISTICS, AttentionCall, Moments, View, watch

EVERYTHING = [
    "entropy",
    "normalized_entropy",
    "collision",
    "max_weight",
    "max_score",
    "first_mass",
    "self_mass",
    "previous_mass",
    "distance",
    "padding_mass",
    "output_norm",
]


class Stack(nn.Module):
    """Two layers of our own attention, the second causal."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MultiHeadAttention(32, 4)
        self.second = MultiHeadAttention(32, 4, causal=True)

    def forward(self, x: torch.Tensor, key_padding_mask: torch.Tensor | None = None) -> torch.Tensor:
        hidden = x + self.first(x, key_padding_mask=key_padding_mask)
        return hidden + self.second(hidden, key_padding_mask=key_padding_mask)


@pytest.fixture
def stack() -> Stack:
    torch.manual_seed(0)
    return Stack()


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def padding() -> torch.Tensor:
    return torch.arange(9) >= torch.tensor([[9], [6], [4]])


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def dense_weights(layer: MultiHeadAttention, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Float64 weights of ``layer`` on ``x``, written out."""
    q, k = (
        F.linear(x.double(), projection.weight.double(), projection.bias.double()).unflatten(2, (4, 8)).transpose(1, 2)
        for projection in (layer.query, layer.key)
    )
    scores = q @ k.transpose(-1, -2) / 8**0.5
    return scores.masked_fill(~keep, -torch.inf).softmax(-1)


def test_outputs_and_gradients_are_bit_identical(stack: Stack, inputs: torch.Tensor, padding: torch.Tensor) -> None:
    plain = stack(inputs, key_padding_mask=padding)
    plain.sum().backward()
    expected = gradients(stack)
    stack.zero_grad()
    with watch(stack, EVERYTHING):
        watched = stack(inputs, key_padding_mask=padding)
    watched.sum().backward()
    assert torch.equal(plain, watched)
    assert all(torch.equal(a, b) for a, b in zip(expected, gradients(stack), strict=True))


def test_random_state_is_left_alone(stack: Stack, inputs: torch.Tensor) -> None:
    before = torch.get_rng_state()
    with watch(stack, EVERYTHING, rows=3):
        stack(inputs)
    assert torch.equal(before, torch.get_rng_state())


def test_statistics_equal_the_dense_float64_computation(
    stack: Stack, inputs: torch.Tensor, padding: torch.Tensor
) -> None:
    with watch(stack, EVERYTHING) as view:
        stack(inputs, key_padding_mask=padding)
    weights = dense_weights(stack.first, inputs, ~padding[:, None, None, :])
    entropy = torch.special.entr(weights).sum(-1)
    real = ~padding[:, None, :].expand_as(entropy)

    def mean(rows: torch.Tensor) -> torch.Tensor:
        return (rows * real).sum((0, 2)) / real.sum((0, 2))

    seen = view["first"]
    torch.testing.assert_close(seen["entropy"], mean(entropy), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen["collision"], mean(weights.square().sum(-1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen["max_weight"], mean(weights.amax(-1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen["first_mass"], mean(weights[..., 0]), atol=1e-5, rtol=0)
    lengths = (~padding).sum(1)[:, None, None].double()
    torch.testing.assert_close(seen["normalized_entropy"], mean(entropy / lengths.log()), atol=1e-5, rtol=0)
    assert torch.equal(seen["padding_mass"], torch.zeros(4, dtype=torch.float64))


def test_rows_of_padding_do_not_count(stack: Stack, inputs: torch.Tensor, padding: torch.Tensor) -> None:
    with watch(stack, ["entropy"]) as view:
        stack(inputs, key_padding_mask=padding)
    rows = [row for row in view.table() if row["layer"] == "first"]
    assert [row["num_rows"] for row in rows] == [9 + 6 + 4] * 4


def test_causal_rows_are_normalised_by_the_keys_they_may_see(stack: Stack, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        stack.second.query.weight.zero_()
        stack.second.query.bias.zero_()
    with watch(stack, ["normalized_entropy"]) as view:
        stack(inputs)
    torch.testing.assert_close(
        view["second"]["normalized_entropy"], torch.ones(4, dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_padding_that_is_attended_shows(inputs: torch.Tensor, padding: torch.Tensor) -> None:
    class Forgetful(Stack):
        def forward(self, x: torch.Tensor, key_padding_mask: torch.Tensor | None = None) -> torch.Tensor:
            return super().forward(x)

    torch.manual_seed(0)
    model = Forgetful()
    with watch(model, ["padding_mass"]) as view:
        model(inputs, key_padding_mask=padding)
    weights = dense_weights(model.first, inputs, torch.ones(9, 9, dtype=torch.bool))
    mass = (weights * padding[:, None, None, :]).sum(-1)
    real = ~padding[:, None, :].expand_as(mass)
    expected = (mass * real).sum((0, 2)) / real.sum((0, 2))
    torch.testing.assert_close(view["first"]["padding_mass"], expected, atol=1e-5, rtol=0)
    assert (expected > 0.05).all()


def test_nothing_stays_behind_after_an_exception(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack):
        stack(inputs)
        with pytest.raises(ArgumentError, match="widths"):
            stack(inputs[..., :7])
    with pytest.raises(ArgumentError, match="widths"), watch(stack):
        stack(inputs[..., :7])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in stack.modules())
    assert not torch.overrides._get_current_function_mode_stack()


def test_no_memory_is_kept_after_the_watch_is_gone(stack: Stack, inputs: torch.Tensor) -> None:
    watcher = watch(stack, EVERYTHING)
    with watcher:
        stack(inputs)
    gone = weakref.ref(watcher.view)
    del watcher
    gc.collect()
    assert gone() is None


def test_no_tensor_of_a_call_is_kept(stack: Stack, inputs: torch.Tensor) -> None:
    def tensors() -> int:
        gc.collect()
        found = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor) and item.ndim == 4]
        return sum(item.shape[1] == 4 and item.shape[3] in (8, inputs.shape[1]) for item in found)

    before = tensors()
    with watch(stack, EVERYTHING) as view:
        stack(inputs)
        assert tensors() == before
    assert view.layers == ["first", "second"]


@pytest.mark.parametrize("rows", ["all", 4])
def test_tensors_are_given_back_at_once_and_not_when_python_looks_for_cycles(
    stack: Stack, inputs: torch.Tensor, rows: Literal["all"] | int
) -> None:
    with watch(stack, list(STATISTICS), rows=rows):
        gc.collect()
        gc.disable()
        try:
            stack(inputs).sum().backward()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found = {type(item).__name__ for item in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert not found & {"Tensor", "Parameter", "AttentionCall"}


def test_calls_are_named_and_described(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack) as view:
        stack(inputs)
        stack(inputs)
    first, second = view.coverage()
    assert (first.layer, first.calls, dict(first.masks)) == ("first", 2, {"none": 2})
    assert (second.layer, second.calls, dict(second.kinds)) == ("second", 2, {"self": 2})
    assert view.kernels() == {"_scaled_dot_product_flash_attention_for_cpu": 4}


def test_dropout_shows_the_kernel_that_really_ran(inputs: torch.Tensor) -> None:
    torch.manual_seed(0)
    layer = nn.ModuleDict({"attention": MultiHeadAttention(32, 4, dropout_p=0.5)})
    layer.forward = lambda x: layer["attention"](x)  # type: ignore[method-assign]
    with watch(layer, ["entropy"]) as view:
        layer(inputs)
    kernel = next(iter(view.kernels()))
    assert "flash" not in kernel
    assert view["attention"]["entropy"].isfinite().all()


def test_a_call_that_statistics_cannot_take_is_listed_and_never_stops_the_model() -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    x = torch.randn(2, 2, 2, 5, 8)
    adapters = {Wide: lambda module, args, kwargs, result: AttentionCall(query=x, key=x, kernel="mine")}
    model = Wide()
    with watch(model, adapters=adapters) as view:
        assert torch.equal(model(x), x)
    (entry,) = view.coverage()
    assert entry.seen
    assert str(entry.reason).startswith("seen but not measured: query must be (batch, heads, len, head_dim)")


def test_unseen_modules_are_listed_with_the_reason(stack: Stack, inputs: torch.Tensor) -> None:
    class Partial(Stack):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x)

    model = Partial()
    with watch(model) as view:
        model(inputs)
    seen, unseen = view.coverage()
    assert seen.seen
    assert seen.reason is None
    assert not unseen.seen
    assert unseen.reason is not None
    assert "did not run" in unseen.reason


def test_a_sample_of_rows_estimates_the_mean_within_its_error(stack: Stack) -> None:
    x = torch.randn(8, 200, 32, generator=torch.Generator().manual_seed(2))
    with watch(stack, ["entropy"]) as exact:
        stack(x)
    with watch(stack, ["entropy"], rows=40, seed=3) as sampled:
        stack(x)
    errors = {
        row["head"]: row["se"] for row in sampled.table() if row["layer"] == "first" and row["statistic"] == "entropy"
    }
    difference = (exact["first"]["entropy"] - sampled["first"]["entropy"]).abs()
    assert all(0 < error < 0.1 for error in errors.values())
    assert all(difference[head] < 4 * error for head, error in errors.items())
    assert all(row["se"] == 0 for row in exact.table())


def test_sampling_is_reproducible_by_its_seed(stack: Stack, inputs: torch.Tensor) -> None:
    def means(seed: int) -> torch.Tensor:
        with watch(stack, ["entropy"], rows=4, seed=seed) as view:
            stack(inputs)
        return view["first"]["entropy"]

    assert torch.equal(means(5), means(5))
    assert not torch.equal(means(5), means(6))


def test_a_schedule_takes_each_statistic_at_its_own_steps(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack, ["entropy", "collision"], every={"collision": 3}) as view:
        for _ in range(4):
            stack(inputs)
    rows = {row["statistic"]: row["num_rows"] for row in view.table() if row["layer"] == "first"}
    assert rows == {"entropy": 4 * 27, "collision": 2 * 27}


def test_layers_and_heads_can_be_chosen(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack, ["entropy"]) as whole:
        stack(inputs)
    with watch(stack, ["entropy"], layers=["sec*"], heads=[3, 1]) as view:
        stack(inputs)
    assert view.layers == ["second"]
    torch.testing.assert_close(view["second"]["entropy"][[3, 1]], whole["second"]["entropy"][[3, 1]])
    assert view["second"]["entropy"][[0, 2]].isnan().all()
    assert {row["head"] for row in view.table()} == {1, 3}
    assert [entry.seen for entry in view.coverage()] == [True, True]


def test_two_watches_may_look_at_once(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack, ["entropy"]) as outer, watch(stack, ["collision"]) as inner:
        stack(inputs)
    assert outer["first"]["entropy"].isfinite().all()
    assert inner["first"]["collision"].isfinite().all()


def test_calls_of_other_models_are_not_taken(stack: Stack, inputs: torch.Tensor) -> None:
    other = Stack()
    with watch(stack) as view:
        other(inputs)
    assert view.table() == []


def test_a_module_whose_fast_path_a_hook_would_close_gets_none() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, batch_first=True)
    with watch(layer):
        assert not layer._forward_pre_hooks


def test_a_plain_tensor_mask_without_batch_axis_is_understood(inputs: torch.Tensor) -> None:
    class Bare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(9, 9, dtype=torch.bool).tril())

    model = Bare()
    with watch(model, ["entropy", "first_mass"]) as view:
        model(inputs)
    weights = (inputs.double() @ inputs.double().mT / 32**0.5).masked_fill(
        ~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf
    )
    torch.testing.assert_close(view[""]["first_mass"], weights.softmax(-1)[..., 0].mean().reshape(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("q_len", [4, 9])
def test_torch_causal_corner_is_the_top_left(q_len: int) -> None:
    class Cross(nn.Module):
        def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return F.scaled_dot_product_attention(x, context, context, is_causal=True)

    generator = torch.Generator().manual_seed(4)
    x, context = torch.randn(1, 1, q_len, 8, generator=generator), torch.randn(1, 1, 6, 8, generator=generator)
    model = Cross()
    with watch(model, ["entropy"]) as view:
        model(x, context)
    keep = torch.ones(q_len, 6, dtype=torch.bool).tril()
    weights = (x.double() @ context.double().mT / 8**0.5).masked_fill(~keep, -torch.inf).softmax(-1)
    expected = torch.special.entr(weights).sum(-1).mean()
    torch.testing.assert_close(view[""]["entropy"], expected.reshape(1), atol=1e-5, rtol=0)


def test_wrong_arguments_are_named(stack: Stack) -> None:
    with pytest.raises(ArgumentError, match="names out of entropy"):
        watch(stack, ["entrophy"])
    with pytest.raises(ArgumentError, match='rows must be "all"'):
        watch(stack, rows=0)
    with pytest.raises(ArgumentError, match="every must be a positive"):
        watch(stack, every=0)
    with pytest.raises((ArgumentError, TypeError), match=r"needs an nn\.Module, got function|annotation"):
        watch(F.softmax)  # type: ignore[arg-type]
    watcher = watch(stack)
    with watcher, pytest.raises(ArgumentError, match="watching already"):
        watcher.start()


def test_an_unseen_layer_is_refused_by_name(stack: Stack, inputs: torch.Tensor) -> None:
    with watch(stack) as view:
        stack(inputs)
    with pytest.raises(RegardError, match="got 'third'"):
        view["third"]


def test_view_is_public() -> None:
    assert regard.watch is watch
    assert isinstance(watch(nn.Linear(1, 1)).view, View)


def test_a_recorder_that_fails_at_the_end_leaves_nothing_on_the_model(inputs: torch.Tensor) -> None:
    class Full:
        def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
            raise RecordError("the disk must have room, got none; make some.")

        def flush(self) -> None: ...

        def close(self) -> None: ...

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ x.mT).softmax(-1)  # no product follows: it is reported when watching ends

    model = nn.Sequential(Attention())
    watcher = watch(model[0], ["entropy"], recorder=Full())
    watcher.start()
    model[0].forward(inputs)
    with pytest.raises(RecordError, match="must have room"):
        watcher.stop()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    watcher.stop()
