"""The error of a pattern is what dense and masked attention differ by, or an estimate with its standard error."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard._errors import ArgumentError
from regard.functional import patterns, reference
from regard.functional.pattern_error import pattern_error

from .patterned import LEN, PATTERNS, PatternCall


def exact(call, pattern, dtype=torch.float64):
    """Return the lost mass and the relative error of each row, and the lengths of the errors."""
    query, key, value = call.tensors(dtype)
    scores = reference.scores(query, key, **call.masking(dtype))
    weights = reference.weights(scores)
    lost = weights.masked_fill(pattern.mask(call.q_len, LEN), 0.0).sum(-1)
    dense = reference.attention(query, key, value, **call.masking(dtype))
    sparse = reference.attention(query, key, value, **call.dense(pattern, dtype))
    empty = (scores == -torch.inf).all(-1)
    apart = (sparse - dense).norm(dim=-1)
    return lost.masked_fill(empty, torch.nan), (apart / dense.norm(dim=-1)).masked_fill(empty, torch.nan), apart


@pytest.mark.parametrize(
    "call", [PatternCall(), PatternCall(causal=True, mask="padding"), PatternCall(window=60)], ids=str
)
@pytest.mark.parametrize("name", PATTERNS)
def test_all_rows_give_the_exact_error_and_no_standard_error(name, call):
    pattern = PATTERNS[name]
    masking = call.masking(torch.float64)
    found = pattern_error(*call.tensors(torch.float64), pattern, rows=LEN, **masking)
    lost, wrong, _ = exact(call, pattern)
    torch.testing.assert_close(found.lost_mass, lost.nanmean((0, 2)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.output_error, wrong.nanmean((0, 2)), rtol=1e-9, atol=1e-9)
    assert torch.equal(found.lost_mass_se, torch.zeros(4, dtype=torch.float64))
    assert found.num_rows == found.num_all == 2 * LEN


def test_sampled_rows_estimate_it_within_their_standard_error():
    call, pattern = PatternCall(causal=True), PATTERNS["longformer"]
    lost, wrong, _ = (values.mean((0, 2)) for values in exact(call, pattern))
    misses = []
    for seed in range(40):
        found = pattern_error(*call.tensors(torch.float64), pattern, rows=40, seed=seed, causal=True)
        misses.append((found.lost_mass - lost) / found.lost_mass_se)
        misses.append((found.output_error - wrong) / found.output_error_se)
    # Standardised misses of an honest standard error have a spread of about 1.
    assert 0.75 < float(torch.stack(misses).square().mean().sqrt()) < 1.3


@given(seed=st.integers(0, 1000), window=st.integers(1, 40), size=st.sampled_from((0.1, 1.0, 5.0)))
@settings(max_examples=25)
def test_an_output_is_off_by_at_most_twice_the_lost_mass_times_the_longest_value(seed, window, size):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(1, 1, 50, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    pattern = patterns.sliding(window)
    found = pattern_error(query * size, key, value, pattern, rows=50)
    dense = reference.attention(query * size, key, value)
    longest = float(value.norm(dim=-1).max()) / float(dense.norm(dim=-1).min())
    assert float(found.largest_output_error[0]) <= 2 * longest + 1e-9
    assert float(found.output_error[0]) <= 2 * float(found.lost_mass[0]) * longest + 1e-9


def test_a_pattern_that_closes_nothing_loses_nothing():
    call = PatternCall()
    found = pattern_error(*call.tensors(torch.float32), patterns.sliding(LEN), rows=50)
    assert float(found.lost_mass.max()) < 1e-6
    assert float(found.output_error.max()) < 1e-6
    assert found.pairs_share == 1.0


def test_it_prints_a_line_for_each_head_and_the_share_of_the_pairs():
    call, pattern = PatternCall(causal=True), PATTERNS["sinks"]
    found = pattern_error(*call.tensors(torch.float32), pattern, rows=30, causal=True)
    lines = str(found).splitlines()
    share = int((pattern.mask(LEN, LEN)[0, 0].tril()).sum()) / (LEN * (LEN + 1) / 2)
    assert lines[0] == f"60 of 400 rows, {share:.2%} of the pairs of dense attention"
    assert len(lines) == 2 + 4
    assert f"{found.lost_mass[3]:.4f} ± {found.lost_mass_se[3]:.4f}" in lines[-1]
    assert found.to_dict()["lost_mass"] == found.lost_mass.tolist()


def test_no_tensor_of_the_whole_matrix(largest_tensor):
    length = 8192
    query = torch.randn(1, 1, length, 8)
    with largest_tensor() as largest:
        pattern_error(query, query, query, patterns.longformer(20, [0]), rows=64, causal=True)
    assert 0 < largest.numel <= 1 << 20


def test_a_single_row_is_refused():
    query = torch.randn(1, 1, 10, 8)
    with pytest.raises(ArgumentError, match="at least 2"):
        pattern_error(query, query, query, patterns.sliding(3), rows=1)
