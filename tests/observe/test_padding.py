"""Padding is read from the model's input by the names that people know, and put where it belongs."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from regard.observe import watch
from regard.observe.calls import AttentionCall
from regard.observe.padding import Padding

FIVE = torch.arange(5) >= torch.tensor([[5], [3]])
SEVEN = torch.arange(7) >= torch.tensor([[7], [4]])


def call(q_len: int, kv_len: int, batch: int = 2) -> AttentionCall:
    query, key = torch.zeros(batch, 1, q_len, 4), torch.zeros(batch, 1, kv_len, 4)
    return AttentionCall(query=query, key=key, value=key, kernel="none")


def rows(padding: Padding, q_len: int, kv_len: int, *, in_decoder: bool = False, crosses: bool = False) -> Any:
    return padding.of_rows(call(q_len, kv_len), in_decoder=in_decoder, crosses=crosses)


def keys(padding: Padding, q_len: int, kv_len: int, *, in_decoder: bool = False, crosses: bool = False) -> Any:
    return padding.of_keys(call(q_len, kv_len), in_decoder=in_decoder, crosses=crosses)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("attention_mask", (~FIVE).long()),
        ("attention_mask", ~FIVE),
        ("attention_mask", (~FIVE).float()),
        ("key_padding_mask", FIVE),
        ("src_key_padding_mask", FIVE),
        ("memory_key_padding_mask", FIVE),
        ("key_padding_mask", torch.zeros(2, 5).masked_fill(FIVE, -torch.inf)),
    ],
)
def test_one_sequence_has_one_padding_under_every_name(name: str, mask: Tensor) -> None:
    padding = Padding.of({"x": None, name: mask})
    assert torch.equal(rows(padding, 5, 5), FIVE)
    assert torch.equal(keys(padding, 5, 5), FIVE)


@pytest.mark.parametrize("mask", [None, torch.ones(2, 1, 5, 5), torch.ones(5), "no mask"])
def test_masks_of_other_ranks_say_nothing(mask: object) -> None:
    padding = Padding.of({"attention_mask": mask, "key_padding_mask": mask})
    assert rows(padding, 5, 5) is None
    assert keys(padding, 5, 5) is None


def test_another_batch_or_length_says_nothing() -> None:
    padding = Padding.of({"attention_mask": ~FIVE})
    assert rows(padding, 6, 6) is None
    assert padding.of_rows(call(5, 5, batch=3), in_decoder=False, crosses=False) is None
    assert padding.of_keys(call(5, 5, batch=3), in_decoder=False, crosses=False) is None


def test_with_a_cache_the_queries_are_the_last_positions() -> None:
    padding = Padding.of({"attention_mask": ~SEVEN})
    assert torch.equal(rows(padding, 3, 7), SEVEN[:, -3:])
    assert torch.equal(keys(padding, 3, 7), SEVEN)


def test_padding_of_keys_says_nothing_of_the_queries_of_another_sequence() -> None:
    padding = Padding.of({"key_padding_mask": SEVEN})
    assert rows(padding, 5, 7) is None
    assert rows(padding, 7, 7, crosses=True) is None
    assert torch.equal(keys(padding, 5, 7, crosses=True), SEVEN)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attention_mask": ~SEVEN, "decoder_input_ids": None, "decoder_attention_mask": ~FIVE},
        {"src": None, "tgt": None, "src_key_padding_mask": SEVEN, "tgt_key_padding_mask": FIVE},
    ],
)
def test_two_sequences_have_each_their_own(arguments: dict[str, Any]) -> None:
    padding = Padding.of(arguments)
    assert torch.equal(rows(padding, 7, 7), SEVEN)
    assert torch.equal(rows(padding, 5, 5, in_decoder=True), FIVE)
    assert torch.equal(keys(padding, 5, 5, in_decoder=True), FIVE)
    assert torch.equal(rows(padding, 5, 7, in_decoder=True, crosses=True), FIVE)
    assert torch.equal(keys(padding, 5, 7, in_decoder=True, crosses=True), SEVEN)
    assert torch.equal(rows(padding, 1, 7, in_decoder=True, crosses=True), FIVE[:, -1:])


@pytest.mark.parametrize(
    "arguments",
    [
        {"memory": None, "memory_key_padding_mask": SEVEN, "tgt_key_padding_mask": FIVE},
        {"encoder_hidden_states": SEVEN, "encoder_attention_mask": ~SEVEN, "attention_mask": ~FIVE},
    ],
)
def test_a_decoder_alone_reads_the_target(arguments: dict[str, Any]) -> None:
    padding = Padding.of(arguments)
    assert torch.equal(rows(padding, 5, 5), FIVE)
    assert torch.equal(keys(padding, 5, 5), FIVE)
    assert torch.equal(rows(padding, 5, 7, crosses=True), FIVE)
    assert torch.equal(keys(padding, 5, 7, crosses=True), SEVEN)


def test_cross_attention_of_a_person_counts_all_its_queries() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor, memory: Tensor, key_padding_mask: Tensor) -> Tensor:
            return self.attention(x, memory, memory, key_padding_mask=key_padding_mask, need_weights=False)[0]

    class Looker(Reader):
        """The same without an argument that tells that there are two sequences."""

        def forward(self, x: Tensor, picture: Tensor, key_padding_mask: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x, picture, key_padding_mask)

    for kind in (Reader, Looker):
        model = kind()
        with watch(model, ["entropy", "padding_mass"]) as view:
            model(torch.randn(2, 5, 16), torch.randn(2, 7, 16), key_padding_mask=SEVEN)
        assert {row["num_rows"] for row in view.table()} == {10}


def test_a_bert_that_is_a_decoder_keeps_the_two_paddings_apart() -> None:
    config = BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=True,
        add_cross_attention=True,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    other = torch.arange(5) >= torch.tensor([[2], [5]])
    with torch.no_grad(), watch(model, ["entropy", "padding_mass"]) as view:
        model(
            torch.randint(0, 50, (2, 5)),
            attention_mask=(~FIVE).long(),
            encoder_hidden_states=torch.randn(2, 5, 32),
            encoder_attention_mask=(~other).long(),
        )
    assert {entry.layer.split(".")[-2]: dict(entry.kinds) for entry in view.coverage()} == {
        "attention": {"self": 1},
        "crossattention": {"cross": 1},
    }
    assert {row["num_rows"] for row in view.table()} == {8}
    assert all(row["maximum"] == 0 for row in view.table() if row["statistic"] == "padding_mass")


def test_without_a_word_from_the_input_a_mask_for_all_rows_is_padding() -> None:
    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            padding = torch.arange(x.shape[1]) >= lengths[:, None]
            return self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]

    model = Silent()
    with watch(model, ["entropy"]) as view:
        model(torch.randn(2, 7, 16), torch.tensor([7, 4]))
    assert {row["num_rows"] for row in view.table()} == {11}


def test_the_padding_of_a_forward_is_forgotten_when_it_ends() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    model = Inner()
    x = torch.randn(2, 7, 16)
    with watch(model, ["entropy"]) as view:
        model(x, attention_mask=~SEVEN)
        model.attention(x, x, x, need_weights=False)
    assert {row["num_rows"] for row in view.table()} == {11 + 14}


class CrossAttention(nn.Module):
    """Attention to another sequence, whose padding only its mask tells."""

    def forward(self, x: torch.Tensor, context: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, context, context, attn_mask=keep[:, None, None, :])


class SelfAttention(CrossAttention):
    """The same of a sequence with itself."""

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return super().forward(x, x, keep)


def test_keys_hidden_from_all_are_padding_of_the_queries_only_where_they_are_the_same_sequence() -> None:
    x = torch.randn(2, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    keep = torch.arange(6) < torch.tensor([[6], [2]])
    cross, itself = CrossAttention(), SelfAttention()
    with watch(cross, ["entropy"], keep=True) as view:
        cross(x, x.flip(2), keep)
    assert [row["num_rows"] for row in view.table()] == [12]
    assert view.kept("").query_mask is not None
    assert bool(view.kept("").query_mask.all())  # type: ignore[union-attr]
    with watch(itself, ["entropy"]) as view:
        itself(x, keep)
    assert [row["num_rows"] for row in view.table()] == [8]
