import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import (
    as_bias,
    causal_mask,
    combine,
    document_mask,
    keep_from_attention_mask,
    keep_from_padding,
    masks,
    num_allowed_keys,
    prefix_mask,
    sliding_window_mask,
)


def rows(mask):
    return ["".join("x" if allowed else "." for allowed in row) for row in mask.tolist()]


def test_causal_corner_is_the_bottom_right():
    assert rows(causal_mask(3, 3)) == ["x..", "xx.", "xxx"]
    assert rows(causal_mask(2, 4)) == ["xxx.", "xxxx"]


def test_causal_refuses_more_queries_than_keys():
    with pytest.raises(ArgumentError, match="at least as many keys as queries, got 4 queries and 3 keys"):
        causal_mask(4, 3)


def test_padding_is_turned_around_and_real_tokens_are_not():
    padding = torch.tensor([[False, False, True]])
    keep = keep_from_padding(padding)
    assert keep.tolist() == [[[[True, True, False]]]]
    assert torch.equal(keep, keep_from_attention_mask(torch.tensor([[1, 1, 0]])))
    assert torch.equal(keep, keep_from_attention_mask(~padding))


def test_attention_mask_of_numbers_or_wrong_axes_is_refused():
    with pytest.raises(DtypeError, match=r"integer with 1 = real token, got torch\.float32"):
        keep_from_attention_mask(torch.ones(1, 3))
    with pytest.raises(ArgumentError, match=r"must be \(batch, kv_len\), got the shape \(1, 1, 3\)"):
        keep_from_attention_mask(torch.ones(1, 1, 3, dtype=torch.bool))


def test_sliding_window_looks_back_or_to_both_sides():
    assert rows(sliding_window_mask(4, 4, window=2)) == ["x...", "xx..", ".xx.", "..xx"]
    assert rows(sliding_window_mask(2, 4, window=2)) == [".xx.", "..xx"]
    assert rows(sliding_window_mask(3, 3, window=2, causal=False)) == ["xx.", "xxx", ".xx"]
    with pytest.raises(ArgumentError, match="window must be at least 1 key, got 0"):
        sliding_window_mask(2, 2, window=0)


def test_documents_see_themselves_only():
    mask = document_mask(torch.tensor([[0, 0, 1]]))
    assert rows(mask[0, 0]) == ["xx.", "xx.", "..x"]
    assert rows(document_mask(torch.tensor([[1]]), torch.tensor([[0, 1, 1]]))[0, 0]) == [".xx"]


def test_prefix_is_seen_by_all():
    assert rows(prefix_mask(4, 4, prefix_len=2)) == ["xx..", "xx..", "xxx.", "xxxx"]
    with pytest.raises(ArgumentError, match=r"prefix_len must lie between 0 and .* 4, got 5"):
        prefix_mask(4, 4, prefix_len=5)


def test_combine_allows_what_all_allow():
    first, second = torch.tensor([True, True, False]), torch.tensor([[True], [False]])
    assert combine(None, None) is None
    assert torch.equal(combine(first, None), first)
    assert rows(combine(first, None, second)) == ["xx.", "..."]
    with pytest.raises(DtypeError, match=r"True = may attend, got torch\.float32"):
        combine(first, torch.zeros(3))


def test_bias_is_zero_or_minus_infinity_in_every_type():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        bias = as_bias(torch.tensor([True, False]), dtype)
        assert bias.dtype == dtype
        assert bias.tolist() == [0.0, -torch.inf]


@pytest.mark.parametrize("block", [1, 1 << 20], ids=["row by row", "at once"])
def test_counted_keys_are_those_of_the_dense_mask(case, block, monkeypatch):
    monkeypatch.setattr(masks, "_BLOCK_ELEMENTS", block)
    allowed = case.scores(torch.float64) > -torch.inf
    masking = case.masking(torch.float64)
    lengths = {"q_len": case.q_len, "kv_len": case.kv_len}
    counted = num_allowed_keys(masking["attn_mask"], case.causal, window=case.window, **lengths)
    assert torch.equal(counted.expand(2, case.heads, -1), allowed.sum(-1))
    if masking["attn_mask"] is None:
        assert counted.shape == (1, 1, case.q_len)


def test_minus_infinity_in_a_bias_forbids():
    keep = torch.rand(2, 1, 1, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    bias = torch.zeros(3, 6, 6).masked_fill(~causal_mask(6, 6), -torch.inf)
    counted = num_allowed_keys(keep, q_len=6, kv_len=6, attn_bias=bias)
    assert counted.shape == (2, 3, 6)
    assert torch.equal(counted, (keep & (bias > -torch.inf)).sum(-1))
    only_bias = num_allowed_keys(q_len=6, kv_len=6, attn_bias=as_bias(keep))
    assert torch.equal(only_bias, keep.sum(-1).expand(2, 1, 6))


def test_counts_follow_given_positions():
    positions = torch.tensor([4, 0, 2])
    assert num_allowed_keys(None, True, q_len=3, kv_len=5, positions=positions).tolist() == [[[5, 1, 3]]]
    keep = torch.tensor([True, False, True, True, True])
    assert num_allowed_keys(keep, True, q_len=3, kv_len=5, positions=positions).tolist() == [[[4, 1, 2]]]
    near = {"q_len": 3, "kv_len": 5, "positions": positions, "window": 2}
    assert num_allowed_keys(None, True, **near).tolist() == [[[2, 1, 2]]]
    assert num_allowed_keys(keep, True, **near).tolist() == [[[2, 1, 1]]]
    assert num_allowed_keys(keep, **near).tolist() == [[[2, 1, 2]]]


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("mask", ["none", "keys", "full"])
def test_rows_of_each_sequence_are_counted_at_their_own_positions(mask, block, monkeypatch):
    monkeypatch.setattr(masks, "_BLOCK_ELEMENTS", block)
    positions = torch.tensor([[4, 0, 2], [1, 3, 3]])
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(2, 1, 1 if mask == "keys" else 3, 5, generator=generator) < 0.6
    allowed = (keep if mask != "none" else True) & (torch.arange(5) <= positions[:, None, :, None])
    counted = num_allowed_keys(None if mask == "none" else keep, True, q_len=3, kv_len=5, positions=positions)
    assert torch.equal(counted, allowed.sum(-1))
    shared = num_allowed_keys(keep[:1], True, q_len=3, kv_len=5, positions=positions)
    assert torch.equal(shared, (keep[:1] & (torch.arange(5) <= positions[:, None, :, None])).sum(-1))
