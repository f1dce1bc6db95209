"""Chunks save memory and no operations, and change nothing that is computed."""

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.cost import attention_curves, count
from regard.cost.curves import MATERIALISED, OWN_CHUNKS, core_numbers
from regard.functional import attention
from regard.functional.chunks import chunked_attention


def work(length, heads=2, width=64):
    layer = nn.TransformerEncoderLayer(width * heads, heads, dropout=0.0, batch_first=True)
    return count(layer, torch.zeros(1, length, width * heads)).attention[0]


def test_the_same_operations_a_tenth_of_the_memory_and_the_same_result_at_4096():
    found = attention_curves(work(4096, heads=1), rows=[64], threads=[1], rounds=3, budget_s=0.0)
    by_name = {way.name: way for way in found.ways}
    whole = by_name[MATERIALISED]
    assert whole.flops == 4 * 4096 * 4096 * 64
    assert whole.peak_bytes >= 2 * 4 * 4096 * 4096  # scores and weights
    for name in ("chunks of 64 rows", OWN_CHUNKS):
        assert by_name[name].flops == whole.flops
        assert whole.peak_bytes >= 10 * by_name[name].peak_bytes
        assert by_name[name].difference <= 1e-6
    assert whole.difference <= 1e-6


def test_memory_falls_with_the_size_of_a_chunk_and_times_come_by_threads():
    found = attention_curves(work(512), rows=[16, 64, 256], threads=[1, 2], rounds=3, budget_s=0.0)
    chunks = [way for way in found.ways if way.rows is not None]
    assert [way.rows for way in chunks] == [16, 64, 256, 512]
    peaks = [way.peak_bytes for way in chunks]
    assert peaks == sorted(peaks)
    assert [list(way.timings) for way in chunks] == [[2], [2], [2], [1, 2]]
    assert all(list(way.timings) == [1, 2] for way in found.ways if way.rows is None)
    assert found.to_dict()["ways"][0]["by_threads"]["2"]["rounds"] == 3
    assert torch.get_num_threads() >= 1


def test_what_would_not_fit_is_left_out_and_said():
    found = attention_curves(work(256), rows=[16], threads=[1], rounds=3, budget_s=0.0, most_bytes=1 << 18)
    assert MATERIALISED not in [way.name for way in found.ways]
    assert found.left_out[MATERIALISED] == "would take 0.0 GiB"


def test_a_causal_call_is_measured_as_one():
    class Layer(nn.Module):
        def forward(self, x):
            heads = x.unflatten(-1, (2, 16)).transpose(1, 2)
            return attention(heads, heads, heads, causal=True, impl="chunked")

    found = attention_curves(count(Layer(), torch.zeros(1, 300, 32)).attention[0], rows=[64], threads=[1], rounds=3)
    assert found.causal
    assert all(way.difference < 1e-5 for way in found.ways)
    chunks = {way.rows: way.flops for way in found.ways if way.rows}
    assert chunks[64] < chunks[300]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 40, 100])
def test_chunks_of_any_size_give_the_same_attention(rows, causal):
    query, key = torch.randn(2, 4, 40, 8, dtype=torch.float64), torch.randn(2, 2, 50, 8, dtype=torch.float64)
    mask = torch.rand(2, 1, 1, 50) < 0.7
    found = chunked_attention(query, key, key, rows=rows, causal=causal, attn_mask=mask)
    exact = attention(query, key, key, causal=causal, attn_mask=mask, impl="reference")
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_numbers_below_one_are_refused():
    with pytest.raises(ArgumentError, match="at least 1"):
        attention_curves(work(64), rows=[0])
    with pytest.raises(ArgumentError, match="rows must be at least 1"):
        chunked_attention(*(torch.zeros(1, 1, 2, 4) for _ in range(3)), rows=0)


def test_thread_numbers_double_up_to_the_cores():
    numbers = core_numbers()
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
