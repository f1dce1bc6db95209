import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import DynamicCache, Int8Cache, PrefixCache, SlidingWindowCache, StaticCache

TOLERANCE = {"atol": 1e-4, "rtol": 0}


@pytest.mark.parametrize("own", [DynamicCache, lambda: StaticCache(300)])
@pytest.mark.parametrize("sizes", [(1,), (30, 1)])
def test_many_sequences_go_on_from_one_beginning(sizes, own, make_layer, sequence, fed):
    layer, prefix, rest = make_layer("grouped"), sequence(212, batch=1), sequence(300, batch=3)
    shared = DynamicCache()
    layer(prefix, cache=shared)

    out = fed(layer, rest, PrefixCache(shared, own()), sizes)

    whole = torch.cat((prefix.expand(3, -1, -1), rest), 1)
    torch.testing.assert_close(out, layer(whole)[:, 212:], **TOLERANCE)


def test_padding_may_stand_between_the_beginning_and_the_rest(make_layer, sequence, fed, alone):
    layer, prefix, rest = make_layer("rotary"), sequence(20, batch=1), sequence(30, batch=2)
    keep = torch.arange(30) >= torch.tensor([[0], [7]])
    shared = StaticCache(20)
    layer(prefix, cache=shared)

    out = fed(layer, rest, PrefixCache(shared, DynamicCache()), (10, 1), keep)

    whole = torch.cat((prefix.expand(2, -1, -1), rest), 1)
    real = torch.cat((torch.ones(2, 20, dtype=torch.bool), keep), 1)
    torch.testing.assert_close(out[keep], alone(layer, whole, real)[:, 20:][keep], **TOLERANCE)


def test_one_beginning_serves_several_and_is_kept_once(make_layer, sequence, fed):
    layer, prefix = make_layer("rotary"), sequence(40, batch=1)
    shared = StaticCache(40)
    layer(prefix, cache=shared)
    first, second = (PrefixCache(shared, StaticCache(10)) for _ in range(2))

    for seed, cache in ((1, first), (2, second), (1, PrefixCache(shared, Int8Cache()))):
        rest = sequence(10, batch=2, seed=seed)
        whole = torch.cat((prefix.expand(2, -1, -1), rest), 1)
        torch.testing.assert_close(fed(layer, rest, cache), layer(whole)[:, 40:], atol=1e-2, rtol=0)

    assert first.num_bytes == second.num_bytes == 2 * 2 * 10 * 16 * 4
    assert shared.num_bytes == 2 * 1 * 40 * 16 * 4
    assert (first.length, shared.length) == (50, 40)
    assert first.held().key.shape == (2, 4, 50, 4)
    assert PrefixCache(shared, DynamicCache()).held().key.shape == (1, 4, 40, 4)


def test_selected_sequences_keep_their_beginning(make_layer, sequence, fed):
    layer, prefix, rest = make_layer("rotary"), sequence(20, batch=1), sequence(11)
    shared, rows = DynamicCache(), torch.tensor([1, 0, 1])
    layer(prefix, cache=shared)
    cache = PrefixCache(shared, DynamicCache())
    fed(layer, rest[:, :10], cache)

    cache.select(rows)

    whole = torch.cat((prefix.expand(3, -1, -1), rest[rows]), 1)
    torch.testing.assert_close(layer(rest[rows, 10:], cache=cache), layer(whole)[:, 30:], **TOLERANCE)


def test_a_beginning_that_changed_is_refused(make_layer, sequence):
    layer, shared = make_layer(), DynamicCache()
    layer(sequence(5, batch=1), cache=shared)
    cache = PrefixCache(shared, DynamicCache())
    layer(sequence(1, batch=1), cache=shared)

    with pytest.raises(ArgumentError, match="prefix must stay as it was, 5 tokens, got 6"):
        layer(sequence(1), cache=cache)


def test_what_cannot_be_shared_is_refused(make_layer, sequence):
    layer, two, forgotten, padded = make_layer(), DynamicCache(), SlidingWindowCache(2), DynamicCache()
    layer(sequence(5), cache=two)
    layer(sequence(200, batch=1), cache=forgotten)
    layer(sequence(2, batch=1), cache=padded, key_padding_mask=torch.tensor([[True, False]]))

    for prefix in (two, forgotten, padded):
        with pytest.raises(ArgumentError, match="prefix must hold one sequence without padding and all of its tokens"):
            PrefixCache(prefix, DynamicCache())
    with pytest.raises(ArgumentError, match="got an empty one"):
        PrefixCache(DynamicCache(), DynamicCache())


def test_what_cannot_follow_is_refused(make_layer, sequence):
    layer, shared = make_layer(), DynamicCache()
    layer(sequence(5, batch=1), cache=shared)

    with pytest.raises(ArgumentError, match="own must keep all of its tokens"):
        PrefixCache(shared, SlidingWindowCache(4))
    with pytest.raises(ArgumentError, match="own must be an empty cache, got one of 5 tokens"):
        PrefixCache(shared, shared)
