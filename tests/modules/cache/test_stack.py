import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import (
    CacheStack,
    CrossAttentionCache,
    DynamicCache,
    FeedForward,
    Int8Cache,
    KeyValueCache,
    MultiHeadAttention,
    PrefixCache,
    ResidualAttention,
    SlidingWindowCache,
    StaticCache,
)


def test_a_stack_of_layers_continues_as_one(sequence):
    torch.manual_seed(1)
    attentions = [MultiHeadAttention(16, 4, causal=True, rotary=100.0) for _ in range(3)]
    layers = [
        ResidualAttention(one, FeedForward(16, 32), norm="pre").eval().requires_grad_(False) for one in attentions
    ]
    stack, x = CacheStack(DynamicCache() for _ in layers), sequence(9)

    def run(x, caches):
        for layer, cache in zip(layers, caches, strict=True):
            x = layer(x, cache=cache)
        return x

    steps = [run(x[:, :6], stack), run(x[:, 6:7], stack)]
    stack.select(torch.tensor([1, 0]))
    last = run(x[[1, 0], 7:], stack)

    expected = run(x, [None] * 3)
    torch.testing.assert_close(torch.cat(steps, 1), expected[:, :7], atol=1e-5, rtol=0)
    torch.testing.assert_close(last, expected[[1, 0], 7:], atol=1e-5, rtol=0)
    assert (stack.length, len(stack), stack.num_bytes) == (9, 3, 3 * stack.layers[0].num_bytes)
    assert stack.positions(2).tolist() == [9, 10]


def test_every_cache_of_self_attention_is_one(make_layer, sequence):
    shared = DynamicCache()
    make_layer()(sequence(2, batch=1), cache=shared)
    kinds = (shared, StaticCache(3), Int8Cache(), SlidingWindowCache(3), PrefixCache(shared, DynamicCache()))

    assert all(isinstance(one, KeyValueCache) for one in kinds)
    assert not isinstance(CrossAttentionCache(), KeyValueCache)


def test_a_layer_needs_a_cache_of_its_own():
    cache = DynamicCache()

    for layers in ([], [cache, cache]):
        with pytest.raises(ArgumentError, match="a cache of its own for each layer"):
            CacheStack(layers)


@pytest.mark.parametrize("keep", [None, torch.tensor([[True, True], [False, True]])])
def test_positions_count_real_tokens(keep, make_layer, sequence):
    cache = DynamicCache()
    make_layer()(sequence(4), cache=cache, key_padding_mask=torch.tensor([[False] * 4, [True, True, False, False]]))

    assert cache.positions(2, keep).tolist() == [[4, 5], [2, 3] if keep is None else [1, 2]]


def test_positions_without_padding_are_of_all_sequences():
    assert DynamicCache().positions(3).tolist() == [0, 1, 2]
    assert DynamicCache().positions(3, torch.tensor([[False, True, True]])).tolist() == [[0, 0, 1]]
