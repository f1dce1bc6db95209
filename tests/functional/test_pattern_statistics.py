"""Statistics of attention by a pattern are those of the dense masked scores, over allowed keys only."""

import pytest
import torch

from regard._errors import UnsupportedError
from regard.functional import (
    COLUMN_STATISTICS,
    ROW_STATISTICS,
    attention_weights,
    column_statistics,
    head_similarity,
    key_mass,
    received_mass,
    reference,
    row_statistics,
)

from .patterned import CALLS, LEN, PATTERNS, PatternCall

ROWS, COLUMNS = list(ROW_STATISTICS), list(COLUMN_STATISTICS)


def dense_rows(name, scores, value):
    given = {"value": value} if ROW_STATISTICS[name].needs_value else {}
    return reference.STATISTICS[name](scores, **given)


@pytest.mark.parametrize("call", [CALLS[at] for at in (0, 2, 4, 6)], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_every_statistic_of_rows_is_that_of_the_dense_scores(name, call):
    query, key, value = call.tensors(torch.float64)
    pattern, masking = PATTERNS[name], call.masking(torch.float64)
    scores = call.scores(pattern, torch.float64)
    found = row_statistics(query, key, statistics=ROWS, value=value, pattern=pattern, **masking)
    assert torch.equal(found.num_keys.expand(scores.shape[:3]), (scores > -torch.inf).sum(-1))
    torch.testing.assert_close(found.lse, reference.lse(scores), rtol=1e-12, atol=1e-12)
    for statistic in ROWS:
        torch.testing.assert_close(
            found.values[statistic], dense_rows(statistic, scores, value), rtol=1e-10, atol=1e-10, equal_nan=True
        )


@pytest.mark.parametrize("name", PATTERNS)
def test_sampled_rows_are_those_of_all_rows(name):
    call, pattern = PatternCall(mask="padding", causal=True), PATTERNS[name]
    query, key, value = call.tensors(torch.float64)
    given = {"statistics": ROWS, "value": value, "pattern": pattern, **call.masking(torch.float64)}
    everything = row_statistics(query, key, **given)
    for rows in (torch.tensor([0, 64, 65, 199]), torch.tensor([[3, 7, 150], [199, 0, 12]])):
        found = row_statistics(query, key, rows=rows, **given)
        at = rows.expand(2, -1)[:, None].expand(-1, 4, -1)
        for statistic in ROWS:
            wanted = everything.values[statistic].gather(2, at)
            torch.testing.assert_close(found.values[statistic], wanted, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("call", [CALLS[4], CALLS[6]], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_columns_masses_weights_and_similarity_are_those_of_the_dense_scores(name, call):
    query, key, _ = call.tensors(torch.float64)
    pattern, masking = PATTERNS[name], call.masking(torch.float64)
    scores, generator = call.scores(pattern, torch.float64), torch.Generator().manual_seed(2)
    weights = reference.weights(scores)
    counted, keys = (torch.rand(2, LEN, generator=generator) < 0.7 for _ in range(2))
    found = column_statistics(query, key, statistics=COLUMNS, query_mask=counted, pattern=pattern, **masking)
    if name != "no block at all":
        for statistic in COLUMNS:
            wanted = reference.COLUMN_STATISTICS[statistic](scores, counted)
            torch.testing.assert_close(found[statistic], wanted, rtol=1e-10, atol=1e-10, equal_nan=True)
    received = received_mass(query, key, query_mask=counted, pattern=pattern, **masking)
    torch.testing.assert_close(received, (weights * counted[:, None, :, None]).sum(2), rtol=1e-10, atol=1e-10)
    mass = key_mass(query, key, keys=keys, pattern=pattern, **masking)
    wanted = (weights * keys[:, None, None]).sum(-1).masked_fill((scores == -torch.inf).all(-1), torch.nan)
    torch.testing.assert_close(mass, wanted, rtol=1e-10, atol=1e-10, equal_nan=True)
    rows, some = torch.tensor([0, 150, 199]), slice(90, 160)
    block = attention_weights(query, key, rows=rows, keys=some, pattern=pattern, **masking)
    torch.testing.assert_close(block, weights[:, :, rows][..., some], rtol=1e-10, atol=1e-10)
    for measure in ("cosine", "kl"):
        dense = call.dense(pattern, torch.float64)
        similar = head_similarity(query, key, measure=measure, pattern=pattern, **masking)
        wanted = head_similarity(query, key, measure=measure, **dense)
        torch.testing.assert_close(similar, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_entropy_is_normalised_by_the_keys_that_the_pattern_allows():
    zeros, pattern = torch.zeros(1, 1, LEN, 8), PATTERNS["longformer"]
    found = row_statistics(zeros, zeros, statistics=["entropy", "normalized_entropy"], pattern=pattern)
    allowed = pattern.num_allowed(LEN, LEN).float()
    torch.testing.assert_close(found.values["entropy"][0], allowed.log(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.values["normalized_entropy"], torch.ones(1, 1, LEN), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("route", ["fused", "native", "flex"])
def test_routes_without_patterns_are_refused_by_name(route):
    zeros = torch.zeros(1, 1, LEN, 8)
    with pytest.raises(UnsupportedError, match="has no patterns"):
        row_statistics(zeros, zeros, statistics=["entropy"], pattern=PATTERNS["sinks"], route=route)


def test_a_known_lse_changes_nothing():
    call, pattern = PatternCall(causal=True), PATTERNS["longformer"]
    query, key, _ = call.tensors(torch.float64)
    scores = call.scores(pattern, torch.float64)
    given = {"statistics": ["entropy", "first_mass", "distance"], "pattern": pattern, "causal": True}
    with_lse = row_statistics(query, key, lse=reference.lse(scores), **given)
    without = row_statistics(query, key, **given)
    for name, values in without.values.items():
        torch.testing.assert_close(with_lse.values[name], values, rtol=1e-11, atol=1e-11)
