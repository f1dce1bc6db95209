"""The attention layers of a model: found by their classes, named by their place, told apart by what they look at."""

import threading

import pytest
import torch
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.observe import watch
from regard.observe.calls import AttentionCall
from regard.observe.layers import Layers, attention_modules, unwrapped


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


class Stack(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.layers:
            x = block(x)
        return x


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))


def test_the_innermost_module_that_says_attention_is_the_layer() -> None:
    model = Stack(Block(Attention()), Block(nn.Linear(16, 16)))
    assert attention_modules(model) == ["layers.0.attention.inner"]
    assert attention_modules(nn.MultiheadAttention(16, 4)) == [""]
    assert attention_modules(nn.Linear(2, 2)) == []


def test_other_classes_can_be_named_attention() -> None:
    assert attention_modules(Stack(Block(nn.Linear(16, 16))), [nn.Linear]) == ["layers.0.attention"]


def test_names_do_not_hold_what_wraps_a_module() -> None:
    inner = Stack(Block(Attention()))
    inner.layers[0] = torch.compile(inner.layers[0], backend="eager")
    compiled = torch.compile(inner, backend="eager")
    assert unwrapped(compiled) is inner
    assert unwrapped(nn.DataParallel(compiled)) is inner
    layers = Layers(unwrapped(compiled))
    assert layers.attention == ["layers.0.attention.inner"]
    assert isinstance(layers.modules["layers.0"], Block)
    with pytest.raises((ArgumentError, TypeError), match=r"needs an nn\.Module|parameter"):
        unwrapped(torch.relu)  # type: ignore[arg-type]


def test_a_layer_that_is_used_twice_has_one_name(x: Tensor) -> None:
    shared = Block(Attention())
    model = Stack(shared, shared, Block(shared.attention))
    with watch(model, ["entropy"]) as view:
        model(x)
    (entry,) = view.coverage()
    assert (entry.layer, entry.calls, entry.rows) == ("layers.0.attention.inner", 3, 30)
    assert {call["step"] for call in view.calls()} == {1}


@pytest.mark.parametrize(
    ("name", "crosses"),
    [
        ("decoder.layers.0.encoder_attn", True),
        ("layers.0.multihead_attn", True),
        ("block.0.EncDecAttention", True),
        ("layer.0.crossattention.self", True),
        ("layers.0.self_attn", False),
        ("block.0.SelfAttention", False),
        ("crossing.layers.0.self_attn", False),
        ("layers.0.attn", None),
    ],
)
def test_whether_a_layer_crosses_is_told_by_its_name(name: str, crosses: bool | None) -> None:
    model = nn.Module()
    place = model
    for part in name.split("."):
        child = nn.Identity()
        place.add_module(part, child)
        place = child
    assert Layers(model).crosses(name) is crosses


def test_a_module_that_says_itself_whether_it_crosses_is_believed() -> None:
    model = nn.ModuleDict({"self_attn": nn.Identity()})
    model["self_attn"].is_cross_attention = True
    assert Layers(model).crosses("self_attn") is True


def test_lengths_tell_the_kind_where_names_do_not() -> None:
    class Reader(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.add_module(name, nn.MultiheadAttention(16, 4, batch_first=True))

        def forward(self, query: Tensor, key: Tensor) -> Tensor:
            (attention,) = self.children()
            return attention(query, key, key, need_weights=False)[0]

    def kind(name: str, q_len: int, kv_len: int) -> str:
        model = Reader(name)
        with watch(model, ["entropy"]) as view:
            model(torch.randn(2, q_len, 16), torch.randn(2, kv_len, 16))
        (entry,) = view.coverage()
        ((found, calls),) = entry.kinds.items()
        assert calls == 1
        return found

    assert [kind("attention", *lengths) for lengths in ((5, 5), (1, 5), (3, 5), (5, 3))] == [
        "self",
        "decode",
        "cross",
        "cross",
    ]
    assert [kind("cross_attn", *lengths) for lengths in ((5, 5), (1, 5), (3, 5))] == ["cross"] * 3
    assert [kind("self_attn", *lengths) for lengths in ((5, 5), (1, 5), (3, 5))] == ["self", "decode", "decode"]


def test_heads_in_the_place_of_queries_are_recognised_only_where_everything_fits() -> None:
    model = nn.ModuleDict({"attention": nn.Identity()})
    model["attention"].num_key_value_groups = 3
    model["attention"].num_heads = 6
    layers = Layers(model)

    def call(heads: int, q_len: int) -> AttentionCall:
        query, key = torch.randn(2, heads, q_len, 4), torch.randn(2, 2, 7, 4)
        return AttentionCall(query=query, key=key, value=key, output=query, lse=query[..., 0], kernel="none")

    assert layers.packed_heads("attention", call(2, 3)) == 3
    assert layers.packed_heads("attention", call(6, 3)) == 1
    assert layers.packed_heads("attention", call(2, 4)) == 1
    packed = call(2, 3)
    spread = packed.unpacked(3)
    assert (spread.num_heads, spread.num_kv_heads, spread.q_len, spread.kv_len) == (6, 2, 1, 7)
    for head in range(6):
        assert torch.equal(spread.query[:, head, 0], packed.query[:, head // 3, head % 3])
        assert torch.equal(spread.lse[:, head, 0], packed.lse[:, head // 3, head % 3])


def test_a_call_outside_of_attention_modules_belongs_to_the_caller(x: Tensor) -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bare = Bare()
            self.attention = Attention()

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(self.bare(x))

    model = Mixed()
    with watch(model, ["entropy"]) as view:
        model(x)
    assert {entry.layer: entry.calls for entry in view.coverage()} == {"bare": 1, "attention.inner": 1}


def test_the_model_may_call_the_kernel_for_its_only_layer(x: Tensor) -> None:
    class Lending(nn.Module):
        """Its layer holds the weights, and the model calls the kernel."""

        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            heads = x.unflatten(-1, (4, 4)).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads)

    model = Lending()
    with watch(model, ["entropy"]) as view:
        model(x)
    assert [(entry.layer, entry.calls) for entry in view.coverage()] == [("attention", 1)]


def test_methods_other_than_forward_are_heard(x: Tensor) -> None:
    class Encoder(Stack):
        def encode(self, x: Tensor) -> Tensor:
            return super().forward(x)

    model = Encoder(Block(Attention()))
    with watch(model, ["entropy"]) as view:
        model.encode(x)
        model.layers[0].attention(x)
    (entry,) = view.coverage()
    assert (entry.calls, entry.rows) == (2, 20)


def test_compiled_calls_of_a_thread_are_counted_apart() -> None:
    """Their order tells the layer, so two threads must not share one count."""
    layers = Layers(Stack(Block(Attention()), Block(Attention())))
    first, second = layers.attention
    found: list[str] = []
    layers.begin_forward()
    found.append(layers._next("", layers.attention))
    thread = threading.Thread(target=lambda: found.append(layers._next("", layers.attention)))
    thread.start()
    thread.join()
    found.append(layers._next("", layers.attention))
    assert found == [first, first, second]
    layers.begin_forward()
    assert layers._next("", layers.attention) == first
    assert layers.by_order == {first, second}
