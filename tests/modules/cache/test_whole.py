import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.modules import DynamicCache, Int8Cache, MultiHeadAttention, StaticCache
from regard.modules.cache.buffer import GROWTH

LENGTH = 512
EXACT = {"dynamic": DynamicCache, "static": lambda: StaticCache(LENGTH)}
TOLERANCE = {"atol": 1e-4, "rtol": 0}
CHUNKS = {"a prompt and steps": (100, 1, 1, 1, 60), "short ones, then long ones": (7, 1, 130, 1)}


@pytest.mark.parametrize("cache", EXACT)
def test_every_one_of_512_steps_equals_the_uncached_pass(cache, make_layer, sequence, fed):
    layer, x = make_layer("grouped"), sequence(LENGTH)

    torch.testing.assert_close(fed(layer, x, EXACT[cache]()), layer(x), **TOLERANCE)


@pytest.mark.parametrize("kind", ["plain", "rotary", "one key head", "qk norm", "temperature"])
def test_every_kind_of_layer_continues(kind, make_layer, sequence, fed):
    layer, x = make_layer(kind), sequence(12)

    torch.testing.assert_close(fed(layer, x, DynamicCache(), (5, 1)), layer(x), **TOLERANCE)


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
def test_chunks_of_any_size_give_the_same(sizes, cache, make_layer, sequence, fed):
    layer, x = make_layer("grouped"), sequence(300)

    torch.testing.assert_close(fed(layer, x, EXACT[cache](), sizes), layer(x), **TOLERANCE)


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
def test_sequences_behind_left_padding_give_what_they_give_alone(sizes, cache, make_layer, sequence, fed, alone):
    layer, x = make_layer("rotary"), sequence(160, batch=3)
    keep = torch.arange(160) >= torch.tensor([[0], [3], [90]])

    out = fed(layer, x, EXACT[cache](), sizes, keep)

    torch.testing.assert_close(out[keep], alone(layer, x, keep)[keep], **TOLERANCE)


@pytest.mark.parametrize("cache", EXACT)
def test_padding_within_a_sequence_is_no_place(cache, make_layer, sequence, fed, alone):
    """As where the rows of a batch go on with parts of unequal lengths."""
    layer, x = make_layer("rotary"), sequence(60, batch=2)
    keep = torch.ones(2, 60, dtype=torch.bool)
    keep[0, 20:31] = keep[1, 40:43] = keep[1, :2] = False

    out = fed(layer, x, EXACT[cache](), (20, 20, 1), keep)

    torch.testing.assert_close(out[keep], alone(layer, x, keep)[keep], **TOLERANCE)


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("rows", [[1, 0, 2], [2, 2], [0, 0, 1, 1, 2, 2], [1]])
def test_selected_sequences_go_on_as_they_would_have(rows, cache, make_layer, sequence, fed, alone):
    layer, x = make_layer("rotary"), sequence(150, batch=3)
    keep = torch.arange(150) >= torch.tensor([[0], [3], [20]])
    kept, rows = EXACT[cache](), torch.tensor(rows)

    fed(layer, x[:, :140], kept, (139, 1), keep[:, :140])
    kept.select(rows)
    out = fed(layer, x[rows, 140:], kept)

    torch.testing.assert_close(out, alone(layer, x, keep)[rows, 140:], **TOLERANCE)


def test_a_mask_of_the_caller_joins_that_of_the_padding(make_layer, sequence):
    layer, x, cache = make_layer("plain"), sequence(6), DynamicCache()
    mask = torch.ones(1, 6, dtype=torch.bool)
    mask[:, 2] = False

    layer(x[:, :5], cache=cache, key_padding_mask=torch.tensor([[True] + [False] * 4] * 2))
    out = layer(x[:, 5:], cache=cache, attn_mask=mask)

    expected = layer(x[:, [1, 3, 4, 5]])[:, 3:]
    torch.testing.assert_close(out, expected, **TOLERANCE)


def test_a_model_may_be_prompted_in_inference_mode_and_go_on_outside_of_it(make_layer, sequence):
    layer, x, cache = make_layer(), sequence(6), DynamicCache()

    with torch.inference_mode():
        layer(x[:, :5], cache=cache)

    torch.testing.assert_close(layer(x[:, 5:], cache=cache), layer(x)[:, 5:], **TOLERANCE)


def test_training_after_inference_finds_usable_tables(make_layer, sequence):
    layer = make_layer("rotary")
    with torch.inference_mode():
        layer(sequence(5))
    layer.requires_grad_(True)

    layer(sequence(5)).sum().backward()

    assert layer.query.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_is_that_of_the_layer(dtype, make_layer, sequence, fed):
    layer, x = make_layer().to(dtype), sequence(9).to(dtype)
    cache = DynamicCache()

    out = fed(layer, x, cache)

    assert out.dtype == cache.held().key.dtype == dtype
    torch.testing.assert_close(out, layer(x), atol=0.06 if dtype == torch.bfloat16 else 1e-12, rtol=0)


def test_bytes_of_a_growing_cache_are_those_of_the_length_rounded_up(make_layer, sequence, fed):
    layer, cache = make_layer("grouped"), DynamicCache()

    fed(layer, sequence(GROWTH + 1), cache, (100, 1))

    assert cache.num_bytes == 2 * 2 * 2 * GROWTH * 2 * 4 * 4  # key and value, rows, 2 · 128 tokens, heads, width, bytes


def test_a_static_cache_allocates_once(make_layer, sequence):
    layer, cache = make_layer(), StaticCache(10)
    layer(sequence(1), cache=cache)
    room = cache.held().key.data_ptr()

    layer(sequence(9), cache=cache)

    assert cache.held().key.data_ptr() == room
    assert cache.num_bytes == 2 * 2 * 10 * 16 * 4


def test_a_static_cache_refuses_what_does_not_fit_and_stays_as_it_was(make_layer, sequence):
    layer, cache, x = make_layer(), StaticCache(10), sequence(11)
    layer(x[:, :9], cache=cache)

    with pytest.raises(ArgumentError, match="room for 11 tokens, got max_len=10"):
        layer(x[:, 9:], cache=cache)

    torch.testing.assert_close(layer(x[:, 9:10], cache=cache), layer(x[:, :10])[:, 9:], **TOLERANCE)


def test_int8_is_within_half_a_level_of_each_number(sequence):
    cache, key, value = Int8Cache(), sequence(300).unflatten(2, (4, 4)).transpose(1, 2), None
    value = key * torch.logspace(-6, 6, 300)[:, None]
    value[:, :, 7] = 0

    attended = cache.append(key, value)

    for exact, found in ((key, attended.key), (value, attended.value)):
        assert ((found - exact).abs() <= exact.abs().amax(-1, keepdim=True) / 253.9).all()
    assert cache.held().key.equal(attended.key)


def test_int8_takes_a_quarter_and_a_factor():
    cache, key = Int8Cache(), torch.randn(2, 3, GROWTH, 64)

    cache.append(key, key)

    assert cache.num_bytes == 2 * 2 * 3 * GROWTH * (64 + 4)


def test_int8_steps_stay_near_the_uncached_pass(make_layer, sequence, fed):
    """Each weight and each value is off by 1/254 of the largest at most, and the errors are independent."""
    layer, x = make_layer("rotary"), sequence(100)
    expected = layer(x)

    error = (fed(layer, x, Int8Cache()) - expected).norm() / expected.norm()

    assert 1e-4 < error < 2e-2


def test_a_layer_that_sees_both_sides_is_refused(sequence):
    layer = MultiHeadAttention(16, 4).requires_grad_(False)

    with pytest.raises(ArgumentError, match="needs causal self-attention, got a bidirectional layer"):
        layer(sequence(3), cache=DynamicCache())


def test_a_context_is_refused(make_layer, sequence):
    with pytest.raises(ArgumentError, match="DynamicCache is for self-attention, got a context"):
        make_layer("plain")(sequence(3), sequence(4), cache=DynamicCache())


def test_gradients_are_refused(make_layer, sequence):
    layer = make_layer().requires_grad_(True)

    with pytest.raises(ArgumentError, match="A cache is for inference"):
        layer(sequence(3), cache=DynamicCache())


@pytest.mark.parametrize("later", [(3, 4), (2, 4, torch.float64)])
def test_a_step_of_another_batch_or_type_is_refused(later, make_layer, sequence):
    layer, cache = make_layer(), DynamicCache()
    layer(sequence(3), cache=cache)
    dtype = later[2] if len(later) > 2 else torch.float32

    with pytest.raises(ArgumentError, match="A step must have the cache's"):
        layer.to(dtype)(sequence(1, batch=later[0]).to(dtype), cache=cache)


def test_a_mask_over_all_tokens_is_refused(make_layer, sequence):
    layer, cache = make_layer(), DynamicCache()
    layer(sequence(3), cache=cache)

    with pytest.raises(ArgumentError, match=r"shape \(batch, kv_len\) = \(2, 1\), got \(2, 4\)"):
        layer(sequence(1), cache=cache, key_padding_mask=torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ArgumentError, match="over the new tokens alone"):
        cache.append(torch.zeros(2, 4, 1, 4), torch.zeros(2, 4, 1, 4), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(DtypeError, match="True = real token"):
        cache.append(torch.zeros(2, 4, 1, 4), torch.zeros(2, 4, 1, 4), torch.ones(2, 1))


def test_an_empty_cache_holds_nothing():
    cache = DynamicCache()
    cache.select(torch.tensor([0]))

    assert (cache.length, cache.num_bytes) == (0, 0)
    with pytest.raises(ArgumentError, match="got an empty one"):
        cache.held()


def test_a_static_cache_needs_room():
    with pytest.raises(ArgumentError, match="max_len must be at least 1 token, got 0"):
        StaticCache(0)
