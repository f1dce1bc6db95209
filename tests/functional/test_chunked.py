import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.functional import attention, reference, row_statistics
from regard.functional.impl import blocks
from regard.functional.impl.chunked import chunked_with_lse
from regard.functional.masks import as_four_axes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"dropout_p": 0.1, "softcap": 5.0},
        {"window": 100, "causal": True},
        {"window": 50, "alibi_slopes": torch.ones(1)},
    ],
    ids=str,
)
def test_no_tensor_of_the_whole_matrix_in_forward_and_backward(options, largest_tensor):
    length = 4096
    query, key, value = (torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3))
    padding = torch.ones(1, 1, 1, length, dtype=torch.bool)
    with largest_tensor() as largest:
        attention(query, key, value, impl="chunked", attn_mask=padding, **options).sum().backward()
    assert 0 < largest.numel <= blocks._BLOCK_SCORES
    assert largest.numel < length * length / 16


def test_no_tensor_of_the_whole_matrix_for_statistics(largest_tensor):
    length = 4096
    query, key = (torch.randn(1, 1, length, 8) for _ in range(2))
    with largest_tensor() as largest:
        row_statistics(query, key, statistics=list(reference.STATISTICS), value=key, causal=True)
    assert 0 < largest.numel <= blocks._BLOCK_SCORES


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both sides"])
@pytest.mark.parametrize("q_len", [300, 40], ids=["all queries", "the last ones"])
def test_keys_out_of_the_window_are_not_looked_at(causal, q_len, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_KEYS", 16)
    monkeypatch.setattr(blocks, "_CAUSAL_ROWS", 32)
    monkeypatch.setattr(blocks, "_MOST_CAUSAL_ROWS", 32)
    looked_at = []
    scores = blocks.ScoreBlocks.scores
    monkeypatch.setattr(
        blocks.ScoreBlocks,
        "scores",
        lambda self, place, keys, rows: looked_at.append((place, keys)) or scores(self, place, keys, rows),
    )
    query, key = torch.randn(1, 1, q_len, 8), torch.randn(1, 1, 300, 8)
    attention(query, key, key, window=20, causal=causal, impl="chunked")
    assert looked_at
    for place, keys in looked_at:
        assert keys.start > place.first - 20
        assert keys.stop <= place.last + (1 if causal else 20)


def test_dropout_is_the_same_in_forward_and_backward(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_SCORES", 12)
    monkeypatch.setattr(blocks, "_BLOCK_KEYS", 4)
    tensors = [torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def seeded(query, key, value):
        torch.manual_seed(7)
        return chunked_with_lse(query, key, value, dropout_p=0.4, softcap=2.0, causal=True)

    assert torch.autograd.gradcheck(seeded, tensors)


def test_dropout_follows_the_seed():
    query, key, value = (torch.randn(1, 2, 16, 4) for _ in range(3))

    def run(seed):
        torch.manual_seed(seed)
        return attention(query, key, value, dropout_p=0.5, impl="chunked")

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_dropped_share_and_scale_are_those_asked_for():
    torch.manual_seed(0)
    zeros, identity = torch.zeros(1, 1, 512, 4), torch.eye(512)[None, None]
    weights = attention(zeros, zeros, identity, dropout_p=0.25, impl="chunked")
    assert float((weights == 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    torch.testing.assert_close(weights[weights > 0], torch.full((int((weights > 0).sum()),), 1 / 512 / 0.75))


def test_lse_is_exact_and_merges_disjoint_sets_of_keys(case, block_size):
    query, key, value = case.tensors(torch.float64)
    masking = case.masking(torch.float64)
    for name in ("attn_mask", "attn_bias"):
        masking[name] = None if masking[name] is None else as_four_axes(masking[name])
    output, lse = chunked_with_lse(query, key, value, **masking)
    torch.testing.assert_close(lse, reference.lse(case.scores(torch.float64)), rtol=1e-12, atol=1e-12)
    if case.causal or case.mask != "none" or case.bias != "none" or case.window or case.slopes:
        return
    parts = [
        chunked_with_lse(query, key[:, :, part], value[:, :, part], scale=case.scale, softcap=case.softcap)
        for part in (slice(0, 3), slice(3, None))
    ]
    shares = torch.stack([part_lse - lse for _, part_lse in parts]).exp()
    merged = sum(share[..., None] * part for share, (part, _) in zip(shares, parts, strict=True))
    torch.testing.assert_close(merged, output, rtol=1e-12, atol=1e-12)


def double_loop(query, key, value, keep, scale):
    """Attention with Python floats, one score at a time."""
    heads, group = query.shape[1], query.shape[1] // key.shape[1]
    output = torch.zeros(*query.shape[:3], value.shape[3], dtype=torch.float64)
    for batch in range(query.shape[0]):
        for head in range(heads):
            for row in range(query.shape[2]):
                seen = [j for j in range(key.shape[2]) if keep[batch, head, row, j]]
                scores = [scale * float(query[batch, head, row] @ key[batch, head // group, j]) for j in seen]
                for j, score in zip(seen, scores, strict=True):
                    share = math.exp(score - max(scores)) / sum(math.exp(other - max(scores)) for other in scores)
                    output[batch, head, row] += share * value[batch, head // group, j].double()
    return output


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 2),
    q_len=st.integers(1, 5),
    more_keys=st.integers(0, 3),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 6),
    masked=st.booleans(),
    block=st.tuples(st.integers(1, 40), st.integers(1, 6)),
    seed=st.integers(0, 1000),
)
def test_any_small_shape_equals_a_double_loop(
    batch, kv_heads, group, q_len, more_keys, widths, causal, window, masked, block, seed
):
    generator = torch.Generator().manual_seed(seed)
    heads, kv_len = kv_heads * group, q_len + more_keys
    query = torch.randn(batch, heads, q_len, widths[0], generator=generator, dtype=torch.float64)
    key = torch.randn(batch, kv_heads, kv_len, widths[0], generator=generator, dtype=torch.float64)
    value = torch.randn(batch, kv_heads, kv_len, widths[1], generator=generator, dtype=torch.float64)
    keep = torch.rand(batch, heads, q_len, kv_len, generator=generator) < (0.6 if masked else 2.0)
    mask = keep if masked else None
    if causal:
        keep = keep & (torch.arange(kv_len) <= torch.arange(q_len)[:, None] + more_keys)
    if window is not None:
        keep = keep & ((torch.arange(q_len)[:, None] + more_keys - torch.arange(kv_len)).abs() < window)
    expected = double_loop(query, key, value, keep, 0.8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_SCORES", block[0])
        patch.setattr(blocks, "_BLOCK_KEYS", block[1])
        for impl in ("chunked", "sdpa", "reference"):
            found = attention(query, key, value, attn_mask=mask, causal=causal, window=window, scale=0.8, impl=impl)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
