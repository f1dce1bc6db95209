"""Pairs that may attend equal those of the dense mask; pairs that kernels compute equal what they compute."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from regard.cost.attention_work import Reach, native_backward_pairs, native_pairs, open_pairs, torch_cpu_pairs
from regard.functional import attention, causal_mask, sliding_window_mask
from regard.functional.impl.blocks import ScoreBlocks

REACHES = [
    (q_len, kv_len, causal, window)
    for q_len, kv_len in [(1, 1), (7, 7), (5, 9), (130, 300)]
    for causal in (False, True)
    for window in (None, 1, 4, 1000)
]


def dense(q_len, kv_len, causal, window):
    keep = torch.ones(q_len, kv_len, dtype=torch.bool)
    if causal:
        keep = keep & causal_mask(q_len, kv_len)
    if window is not None:
        keep = keep & sliding_window_mask(q_len, kv_len, window=window, causal=causal)
    return keep


@pytest.mark.parametrize(("q_len", "kv_len", "causal", "window"), REACHES)
def test_needed_pairs_are_those_of_the_dense_mask(q_len, kv_len, causal, window):
    reach, keep = Reach(q_len, kv_len, causal, window, kv_len - q_len), dense(q_len, kv_len, causal, window)
    padding = torch.arange(kv_len)[None, None, None] < kv_len - 1

    assert reach.needed == keep.sum()
    assert open_pairs((None,), 6 * q_len * kv_len, reach) == 6 * keep.sum()
    assert open_pairs((padding,), 6 * q_len * kv_len, reach) == 6 * (keep & padding).sum()


def test_bias_closes_where_it_is_lower_than_half_of_its_type():
    bias = torch.zeros(2, 1, 3, 4)
    bias[0, :, :, 2:] = -torch.inf
    bias[1, :, :, 3:] = torch.finfo(torch.float32).min

    assert open_pairs((bias,), 2 * 5 * 3 * 4) == 5 * 3 * (2 + 3)


@pytest.mark.parametrize(("q_len", "kv_len", "causal", "window"), REACHES)
def test_kernels_compute_at_least_what_is_needed_and_no_more_than_all(q_len, kv_len, causal, window):
    reach = Reach(q_len, kv_len, causal, window, kv_len - q_len)
    padded = -(-q_len // 64) * 64 * kv_len

    assert 3 * reach.needed <= native_pairs(reach, 3, True) <= native_pairs(reach, 3, False) <= 3 * q_len * kv_len
    assert reach.needed <= native_backward_pairs(reach) <= padded
    if not causal and window is None:
        assert native_pairs(reach, 3, True) == 3 * q_len * kv_len
        assert native_backward_pairs(reach) == padded


def test_pytorch_on_a_cpu_saves_nothing_by_causality_up_to_512_keys():
    assert torch_cpu_pairs(512, 512, True) == torch_cpu_pairs(512, 512, False) == 512 * 512
    assert torch_cpu_pairs(1024, 1024, True) == 0.75 * 1024 * 1024
    assert torch_cpu_pairs(16_384, 16_384, True) == pytest.approx(0.5 * 16_384**2, rel=0.05)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (4, 1)])
def test_chunked_pairs_are_those_that_its_products_compute(causal, window, heads, kv_heads):
    query, key = torch.randn(1, heads, 140, 8), torch.randn(1, kv_heads, 300, 8)
    options = {"causal": causal, "window": window}
    blocks = ScoreBlocks(query, key, attn_mask=None, attn_bias=None, scale=None, softcap=None, **options)

    with FlopCounterMode(display=False) as counted:
        attention(query.double(), key.double(), key.double(), impl="chunked", **options)  # float64: products as bmm

    assert counted.get_total_flops() == 2 * (8 + 8) * blocks.num_pairs
    assert sum(dense(140, 300, causal, window).flatten()) * heads <= blocks.num_pairs
