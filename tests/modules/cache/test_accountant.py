import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import (
    CacheShape,
    CacheStack,
    DynamicCache,
    Int8Cache,
    PrefixCache,
    SlidingWindowCache,
    StaticCache,
    cache_bytes,
    longest_context,
)

KINDS = {
    "dynamic": lambda length: DynamicCache(),
    "static": StaticCache,
    "int8": lambda length: Int8Cache(),
    "window": lambda length: SlidingWindowCache(40, num_sinks=4),
}
SHAPE = CacheShape(num_layers=2, num_kv_heads=3, head_dim=16, value_dim=8)


def allocated(caches, length, batch, shape, prompt=50):
    """Fill the caches with a prompt and single steps; return what they say and what their tensors say."""
    for cache in caches:
        for start, new in [(0, min(prompt, length)), *((place, 1) for place in range(prompt, length))]:
            assert cache.length == start
            widths = (shape.head_dim, shape.value_dim or shape.head_dim)
            cache.append(*(torch.zeros(batch, shape.num_kv_heads, new, width, dtype=shape.dtype) for width in widths))
    return CacheStack(caches).num_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 50, 128, 300])
@pytest.mark.parametrize("kind", KINDS)
def test_predicted_bytes_are_those_allocated(kind, length, dtype):
    shape = CacheShape(num_layers=2, num_kv_heads=3, head_dim=16, value_dim=8, dtype=dtype)
    caches = [KINDS[kind](length) for _ in range(2)]

    predicted = cache_bytes(KINDS[kind](length), shape, length, batch=3)

    assert predicted == allocated(caches, length, 3, shape)


def test_exact_caches_take_what_the_formula_says():
    """2 · layers · heads · width · bytes · tokens · batch."""
    shape = CacheShape(num_layers=12, num_kv_heads=12, head_dim=64)

    assert cache_bytes(StaticCache(1000), shape, 700, batch=8) == 2 * 12 * 12 * 64 * 4 * 1000 * 8
    assert cache_bytes(DynamicCache(), shape, 1024, batch=8) == 2 * 12 * 12 * 64 * 4 * 1024 * 8


def test_int8_takes_a_quarter_and_a_factor_of_each_head():
    shape = CacheShape(num_layers=1, num_kv_heads=1, head_dim=64)

    assert cache_bytes(Int8Cache(), shape, 256) / cache_bytes(DynamicCache(), shape, 256) == (64 + 4) / 256


def test_a_shared_beginning_is_counted_once():
    shared = DynamicCache()
    shared.append(torch.zeros(1, 3, 200, 16), torch.zeros(1, 3, 200, 8))

    assert cache_bytes(PrefixCache(shared, DynamicCache()), SHAPE, 210) == cache_bytes(DynamicCache(), SHAPE, 10)


@pytest.mark.parametrize("kind", ["dynamic", "static", "int8"])
def test_the_longest_context_fits_and_one_more_does_not(kind):
    for budget in (300_000, 1_234_567):
        longest = longest_context(KINDS[kind], SHAPE, budget, max_len=10**6, batch=2)

        assert cache_bytes(KINDS[kind](longest), SHAPE, longest, batch=2) <= budget
        assert cache_bytes(KINDS[kind](longest + 1), SHAPE, longest + 1, batch=2) > budget
        assert longest_context(KINDS[kind], SHAPE, budget, max_len=longest - 3, batch=2) == longest - 3


def test_a_window_makes_the_context_as_long_as_the_model_takes():
    assert longest_context(KINDS["window"], SHAPE, 10**6, max_len=10**9) == 10**9


def test_a_budget_without_room_is_refused():
    with pytest.raises(ArgumentError, match="room for a token, got 10 bytes where one takes 576"):
        longest_context(StaticCache, SHAPE, 10, max_len=100)
    with pytest.raises(ArgumentError, match="must be at least 1"):
        CacheShape(num_layers=0, num_kv_heads=1, head_dim=1)
