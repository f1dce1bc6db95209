"""Compiled models are watched as they are: same bits, nothing compiled again, layers named by their order."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from transformers import BertConfig, BertModel

from regard.observe import View, taps, watch

pytestmark = [
    pytest.mark.compiled,
    # Of PyTorch's own compiler.
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

NAMES = ["entropy", "max_weight", "output_norm", "qk_gradient", "vo_gradient"]
FUSED = "_scaled_dot_product_flash_attention_for_cpu"


class SelfAttention(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(heads.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(causal)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(causal=False), Block(causal=True)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Broken(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        torch._dynamo.graph_break()
        return self.blocks[1](x)


LAYERS = ["blocks.0.attention", "blocks.1.attention"]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))


def compiled_frames() -> tuple[int, int]:
    counters = torch._dynamo.utils.counters
    return counters["stats"]["unique_graphs"], counters["frames"]["ok"]


def step(model: nn.Module, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    output = model(inputs)
    output.square().sum().backward()
    return output, [parameter.grad.clone() for parameter in model.parameters()]


def net(kind: type[Net] = Net) -> Net:
    torch.manual_seed(0)
    return kind()


def compiled_whole(model: nn.Module, backend: str) -> Any:
    return torch.compile(model, backend=backend)


def compiled_in_place(model: nn.Module, backend: str) -> Any:
    model.compile(backend=backend)
    return model


def compiled_blocks(model: nn.Module, backend: str) -> Any:
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block, backend=backend)
    return model


def compiled_blocks_in_place(model: nn.Module, backend: str) -> Any:
    for block in model.blocks:
        block.compile(backend=backend)
    return model


WAYS = {
    "whole": compiled_whole,
    "in place": compiled_in_place,
    "blocks": compiled_blocks,
    "blocks in place": compiled_blocks_in_place,
}


def assert_same_step(one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(one[0], other[0])
    assert len(one[1]) == len(other[1]) == 8
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def assert_seen_like(view: View, eager: View) -> None:
    assert [entry.layer for entry in view.coverage()] == LAYERS
    for entry, mask in zip(view.coverage(), ("none", "causal"), strict=True):
        assert (entry.calls, entry.reason, dict(entry.kernels), dict(entry.masks)) == (1, None, {FUSED: 1}, {mask: 1})
        for name in NAMES:
            expected = eager[entry.layer][name]
            torch.testing.assert_close(view[entry.layer][name], expected, atol=1e-6, rtol=1e-5)
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["compiled", "watched"])
def test_compile_and_watch_in_either_order(way: str, backend: str, first: str, x: Tensor) -> None:
    original = net()
    with watch(original, NAMES) as eager:
        step(original, x)

    model = WAYS[way](net(), backend)
    watcher = watch(model, NAMES)
    if first == "compiled":
        plain = step(model, x)
        before = compiled_frames()
        with watcher as view:
            watched = step(model, x)
    else:
        with watcher as view:
            watched = step(model, x)
        before = compiled_frames()
        plain = step(model, x)
    assert before[0] > 0
    assert compiled_frames() == before
    assert_same_step(plain, watched)
    assert_seen_like(view, eager)
    # Which layer calls is certain where each compiled module holds one of them.
    assert {entry.by_order for entry in view.coverage()} == {"blocks" not in way}


@pytest.mark.parametrize("way", WAYS)
def test_statistics_of_the_residual_stream_compile_nothing_again(way: str, x: Tensor) -> None:
    names = ["entropy", "residual_share", "residual_diversity"]
    model = WAYS[way](net(), "aot_eager")
    plain = step(model, x)
    before = compiled_frames()
    with watch(model, names) as view:
        watched = step(model, x)
    step(model, x)
    assert compiled_frames() == before
    assert_same_step(plain, watched)
    assert all(set(entry.missing) == {"residual_share", "residual_diversity"} for entry in view.coverage())


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_graph_that_breaks_keeps_its_layers(backend: str, x: Tensor) -> None:
    original = net(Broken)
    with watch(original, NAMES) as eager:
        step(original, x)
    model = torch.compile(net(Broken), backend=backend)
    plain = step(model, x)
    before = compiled_frames()
    with watch(model, NAMES) as view:
        watched = step(model, x)
    assert before[0] > 1
    assert compiled_frames() == before
    assert_same_step(plain, watched)
    assert_seen_like(view, eager)


def test_several_steps_and_another_length_keep_their_layers(x: Tensor) -> None:
    model = compiled_in_place(net(), "aot_eager")  # without a hook that tells where a forward begins
    longer = torch.randn(3, 9, 16)
    with torch.no_grad(), watch(model, ["entropy"]) as view:
        for inputs in (x, longer, x):
            model(inputs)
    assert [(call["step"], call["layer"]) for call in view.calls()] == [
        (number, layer) for number in (1, 2, 3) for layer in LAYERS
    ]
    assert {row["num_rows"] for row in view.table()} == {14 + 27 + 14}


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_bert_with_padding_is_watched_compiled(backend: str) -> None:
    config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False).eval()
    ids = torch.randint(0, 50, (3, 11))
    mask = (torch.arange(11) < torch.tensor([[11], [7], [3]])).long()
    names = ["entropy", "padding_mass", "output_norm"]
    with torch.no_grad():
        with watch(model, names) as eager:
            model(ids, attention_mask=mask)
        compiled = torch.compile(model, backend=backend)
        plain = compiled(ids, attention_mask=mask).last_hidden_state
        before = compiled_frames()
        with watch(compiled, names) as view:
            watched = compiled(ids, attention_mask=mask).last_hidden_state
    assert compiled_frames() == before
    assert torch.equal(plain, watched)
    assert view.layers == eager.layers == [f"encoder.layer.{number}.attention.self" for number in range(2)]
    for layer in view.layers:
        for name in names:
            torch.testing.assert_close(view[layer][name], eager[layer][name], atol=1e-6, rtol=1e-5)
    assert {row["num_rows"] for row in view.table()} == {21}


# what the compiler writes itself makes no call that could be heard


class FlexAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return flex_attention(x, x, x)


class SoftmaxAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.mT).softmax(-1) @ x


@pytest.mark.parametrize("make", [FlexAttention, SoftmaxAttention])
def test_attention_that_the_compiler_wrote_is_listed_as_not_seen(make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(make())
    compiled = torch.compile(model)
    inputs = torch.randn(2, 4, 32, 16)
    with torch.no_grad():
        plain = compiled(inputs)
        with watch(compiled) as view:
            assert torch.equal(compiled(inputs), plain)
    (entry,) = view.coverage()
    assert (entry.layer, entry.seen) == ("0", False)
    assert "code that torch.compile generated" in str(entry.reason)
    assert view.table() == []


def test_dropout_is_listed_as_not_seen_where_the_compiler_writes_it(x: Tensor) -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    model = torch.compile(Dropping())
    with watch(model, ["entropy"]) as view:
        model(x).sum().backward()
    (entry,) = view.coverage()
    assert not entry.seen
    assert "code that torch.compile generated" in str(entry.reason)
