import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import SlidingWindowCache
from regard.modules.cache.buffer import GROWTH

from .conftest import window_mask

TOLERANCE = {"atol": 1e-4, "rtol": 0}
WINDOWS = [(1, 0), (1, 3), (8, 0), (8, 4), (50, 4), (600, 4)]
CHUNKS = {
    "a prompt and steps": (100, 1, 1, 1, 60, 1, 1, 70),
    "a prompt longer than the room": (200, 1, 1, 29),
    "short ones, then long ones": (7, 1, 130, 1, 150, 12),
}


def test_every_one_of_512_steps_equals_dense_attention_with_that_mask(make_layer, sequence, fed):
    layer, x = make_layer("grouped"), sequence(512)

    out = fed(layer, x, SlidingWindowCache(8, num_sinks=4))

    torch.testing.assert_close(out, layer(x, attn_mask=window_mask(512, 8, 4)), **TOLERANCE)


@pytest.mark.parametrize(("window", "num_sinks"), WINDOWS)
@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
def test_chunks_of_any_size_give_the_same(sizes, window, num_sinks, make_layer, sequence, fed):
    layer, x = make_layer("rotary"), sequence(400)

    out = fed(layer, x, SlidingWindowCache(window, num_sinks=num_sinks), sizes)

    torch.testing.assert_close(out, layer(x, attn_mask=window_mask(400, window, num_sinks)), **TOLERANCE)


@pytest.mark.parametrize(("window", "num_sinks"), WINDOWS)
@pytest.mark.parametrize("sizes", CHUNKS.values(), ids=CHUNKS)
def test_sequences_behind_left_padding_give_what_they_give_alone(
    sizes, window, num_sinks, make_layer, sequence, fed, alone
):
    """Each row has its own first tokens; one begins where the window of the others has passed."""
    layer, x = make_layer("rotary"), sequence(300, batch=4)
    keep = torch.arange(300) >= torch.tensor([[0], [3], [9], [205]])

    out = fed(layer, x, SlidingWindowCache(window, num_sinks=num_sinks), sizes, keep)

    torch.testing.assert_close(out[keep], alone(layer, x, keep, window, num_sinks)[keep], **TOLERANCE)


@pytest.mark.parametrize(("window", "num_sinks"), [(1, 3), (8, 4)])
def test_steps_behind_left_padding_pass_the_end_of_the_room(window, num_sinks, make_layer, sequence, fed, alone):
    layer, x = make_layer("rotary"), sequence(300)
    keep = torch.arange(300) >= torch.tensor([[0], [5]])

    out = fed(layer, x, SlidingWindowCache(window, num_sinks=num_sinks), (140, 1), keep)

    torch.testing.assert_close(out[keep], alone(layer, x, keep, window, num_sinks)[keep], **TOLERANCE)


def test_padding_within_a_sequence_does_not_shorten_the_window(make_layer, sequence, fed, alone):
    layer, x = make_layer("rotary"), sequence(260)
    keep = torch.ones(2, 260, dtype=torch.bool)
    keep[0, 20:230] = keep[1, 5:8] = False

    out = fed(layer, x, SlidingWindowCache(16, num_sinks=2), (40, 1), keep)

    torch.testing.assert_close(out[keep], alone(layer, x, keep, 16, 2)[keep], **TOLERANCE)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rows", [[1, 0, 2], [0, 0, 2, 1]])
def test_selected_sequences_go_on_as_they_would_have(rows, padded, make_layer, sequence, fed, alone):
    layer, x = make_layer("rotary"), sequence(150, batch=3)
    keep = torch.arange(150) >= torch.tensor([[0], [3], [20]]) * padded
    cache, rows = SlidingWindowCache(10, num_sinks=2), torch.tensor(rows)

    fed(layer, x[:, :100], cache, (99, 1), keep[:, :100])
    cache.select(rows)
    out = fed(layer, x[rows, 100:], cache)

    torch.testing.assert_close(out, alone(layer, x, keep, 10, 2)[rows, 100:], **TOLERANCE)


def test_memory_does_not_grow_with_the_length(make_layer, sequence, fed):
    layer, cache = make_layer("grouped"), SlidingWindowCache(10, num_sinks=2)

    fed(layer, sequence(1000), cache, (500, 1))

    assert cache.length == 1000
    assert cache.held().key.shape[2] == 2 + 10
    assert cache.num_bytes == 2 * 2 * 2 * (2 + 9 + GROWTH) * 4 * 4


def test_keys_stay_in_the_order_of_the_sequence(make_layer):
    cache = SlidingWindowCache(3, num_sinks=2)
    for place in range(300):
        cache.append(*[torch.full((1, 1, 1, 1), float(place))] * 2)

    assert cache.held().key.flatten().tolist() == [0, 1, 297, 298, 299]


@pytest.mark.parametrize(("window", "num_sinks"), [(0, 4), (4, -1)])
def test_a_window_needs_a_key(window, num_sinks):
    with pytest.raises(ArgumentError, match=f"got {window} and {num_sinks}"):
        SlidingWindowCache(window, num_sinks=num_sinks)
