import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import (
    ROW_STATISTICS,
    column_statistics,
    column_statistics_of_scores,
    reference,
    row_statistics,
    statistics_of_scores,
)
from regard.functional.definitions import VALUE_STATISTICS
from regard.functional.impl import blocks

ALL = tuple(ROW_STATISTICS)


def forbid(scores, how):
    """Write -inf as models do: as it is, as the type's most negative number, or with something added to that."""
    lowest = {"inf": -torch.inf, "lowest": 1.0, "near lowest": 0.75}[how]
    lowest = lowest if how == "inf" else lowest * torch.finfo(scores.dtype).min
    return scores.masked_fill(scores == -torch.inf, lowest)


@pytest.mark.parametrize("how", ["inf", "lowest", "near lowest"])
def test_statistics_equal_the_dense_float64_ones(case, dtype, block_size, how):
    value = case.tensors(dtype)[2]
    scores = forbid(case.scores(torch.float64).to(dtype), how)
    masked = scores.double().masked_fill(case.scores(torch.float64) == -torch.inf, -torch.inf)
    found = statistics_of_scores(scores, statistics=ALL, value=value)
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    arguments = {"headroom": {"dtype": dtype}, **{name: {"value": value.double()} for name in VALUE_STATISTICS}}
    for name, values in found.values.items():
        exact = ROW_STATISTICS[name].reference(masked, **arguments.get(name, {}))
        torch.testing.assert_close(values.double(), exact, rtol=32 * eps, atol=32 * eps, equal_nan=True)
        assert values.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.lse.double(), reference.lse(masked), rtol=32 * eps, atol=32 * eps)
    assert torch.equal(found.num_keys, (masked > -torch.inf).sum(-1))


def test_they_agree_with_the_statistics_of_query_and_key(case):
    query, key, value = case.tensors(torch.float64)
    masking = case.masking(torch.float64)
    expected = row_statistics(query, key, statistics=ALL, value=value, **masking)
    found = statistics_of_scores(case.scores(torch.float64), statistics=ALL, value=value)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert torch.equal(found.num_keys, expected.num_keys.expand_as(found.num_keys))


@pytest.mark.parametrize("own", [False, True])
def test_positions_say_which_key_is_a_rows_own(own):
    scores = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([5, 0, 3, 3])
    positions = torch.stack([rows, rows.flip(0)]) if own else rows
    found = statistics_of_scores(scores, statistics=["self_mass", "previous_mass", "distance"], positions=positions)
    weights = scores.softmax(-1)
    at = positions.expand(2, 4)[:, None, :, None].expand(2, 3, 4, 1)
    torch.testing.assert_close(found.values["self_mass"], weights.gather(-1, at)[..., 0])
    previous = weights.gather(-1, (at - 1).clamp_min(0))[..., 0].masked_fill(at[..., 0] == 0, torch.nan)
    torch.testing.assert_close(found.values["previous_mass"], previous, equal_nan=True)
    torch.testing.assert_close(found.values["distance"], (weights * (at - torch.arange(6)).abs()).sum(-1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_entropy_of_collapsed_heads_in_half_precision(dtype):
    scores = (17 * torch.randn(2, 4, 64, 128, generator=torch.Generator().manual_seed(0))).to(dtype)
    exact = reference.STATISTICS["entropy"](scores.double())
    assert scores.max() > 70
    assert exact.mean() < 0.6
    found = statistics_of_scores(scores, statistics=["entropy"]).values["entropy"]
    assert (found - exact).abs().max() < 0.002


def test_the_matrix_is_read_in_blocks_and_left_as_it_was(largest_tensor):
    scores, value = torch.randn(1, 4, 1024, 1024).bfloat16(), torch.randn(1, 2, 1024, 8)
    before = scores.clone()
    with largest_tensor(scores) as largest:
        statistics_of_scores(scores, statistics=ALL, value=value)
    assert largest.numel <= blocks._BLOCK_SCORES < scores.numel()
    assert torch.equal(scores, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"statistics": ["entrpy"]}, ArgumentError, r"names out of entropy, .* got \['entrpy'\]"),
        ({"statistics": ["contribution"]}, ArgumentError, "contribution must be given the values, got none"),
        ({"value": torch.zeros(1, 3, 5, 2)}, ArgumentError, "kv_heads that divides the 4 heads"),
        ({"value": torch.zeros(1, 2, 3, 2)}, ArgumentError, r"value must be .* \(1, 2, 5\)"),
        (
            {"positions": torch.zeros(5, dtype=torch.int64)},
            ArgumentError,
            r"\(batch, q_len\) = \(1, 3\), got .* \(5,\)",
        ),
        ({"positions": torch.zeros(3, dtype=torch.int32)}, DtypeError, "positions must be int64, got torch.int32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    statistics = ["contribution"] if "value" in arguments else ["entropy"]
    with pytest.raises(error, match=message):
        statistics_of_scores(torch.zeros(1, 4, 3, 5), **{"statistics": statistics, **arguments})


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min])
def test_columns_of_scores_are_those_of_query_and_key(lowest):
    query, key = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    counted = torch.arange(9) < torch.tensor([[9], [6]])
    names = ["received_gini", "heavy_hitter_mass"]
    expected = column_statistics(query, key, statistics=names, query_mask=counted, causal=True)
    scores = (query @ key.mT / 8**0.5).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), lowest)
    found = column_statistics_of_scores(scores, statistics=names, query_mask=counted)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5)


def test_columns_of_scores_refuse_what_they_do_not_know():
    with pytest.raises(ArgumentError, match="names out of received_gini"):
        column_statistics_of_scores(torch.zeros(1, 1, 2, 2), statistics=["gini"])
