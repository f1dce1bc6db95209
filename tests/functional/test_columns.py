import math

import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import COLUMN_STATISTICS, column_statistics, masks, received_mass, reference
from regard.functional.masks import num_seeing_queries

ALL = tuple(COLUMN_STATISTICS)
pytestmark = pytest.mark.usefixtures("kernels")


def counted_queries(case):
    return torch.rand(2, case.q_len, generator=torch.Generator().manual_seed(3)) < 0.6


@pytest.mark.parametrize("counting", ["all", "some", "none of one sequence"])
def test_column_statistics_equal_the_dense_float64_ones(case, dtype, block_size, counting):
    query, key, _ = case.tensors(dtype)
    query_mask = None if counting == "all" else counted_queries(case)
    if counting == "none of one sequence":
        query_mask[0] = False
    found = column_statistics(query, key, statistics=ALL, query_mask=query_mask, **case.masking(dtype))
    eps = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    for name, values in found.items():
        exact = COLUMN_STATISTICS[name].reference(case.scores(dtype), query_mask)
        torch.testing.assert_close(values.double(), exact, rtol=64 * eps, atol=64 * eps, equal_nan=True)
        assert values.dtype == torch.promote_types(dtype, torch.float32)


def test_a_given_lse_saves_nothing_but_time(case):
    query, key, _ = case.tensors(torch.float64)
    masking = case.masking(torch.float64)
    lse = reference.lse(case.scores(torch.float64))
    known = column_statistics(query, key, statistics=ALL, lse=lse, **masking)
    for name, values in column_statistics(query, key, statistics=ALL, **masking).items():
        torch.testing.assert_close(values, known[name], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_received_mass_sums_the_columns(case, block_size):
    query, key, _ = case.tensors(torch.float32)
    counted = counted_queries(case)
    weights = reference.weights(case.scores(torch.float32))
    received = received_mass(query, key, **case.masking(torch.float32))
    torch.testing.assert_close(received.double(), weights.sum(2), rtol=1e-5, atol=1e-5)
    lse = reference.lse(case.scores(torch.float32)).float()
    some = received_mass(query, key, query_mask=counted, lse=lse, **case.masking(torch.float32))
    expected = (weights * counted[:, None, :, None]).sum(2)
    torch.testing.assert_close(some.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_seeing_queries_are_counted(case, block, monkeypatch):
    monkeypatch.setattr(masks, "_BLOCK_ELEMENTS", block)
    masking, counted = case.masking(torch.float32), counted_queries(case)
    for query_mask in (None, counted):
        found = num_seeing_queries(
            masking["attn_mask"], case.causal, window=case.window,
            q_len=case.q_len, kv_len=case.kv_len, attn_bias=masking["attn_bias"], query_mask=query_mask,
        )  # fmt: skip
        seen = case.scores(torch.float32) > -torch.inf
        seen = seen if query_mask is None else seen & query_mask[:, None, :, None]
        assert torch.equal(found.expand(2, case.heads, -1), seen.sum(2))


def test_uniform_causal_attention_is_even_though_the_first_key_receives_most():
    query = key = torch.zeros(1, 1, 64, 4)
    even = column_statistics(query, key, statistics=["received_gini"])["received_gini"]
    assert float(even) == pytest.approx(0.0, abs=1e-6)
    causal = column_statistics(query, key, statistics=["received_gini"], causal=True)["received_gini"]
    raw = received_mass(query, key, causal=True)[0, 0].double()
    raw_gini = (raw[:, None] - raw).abs().sum() / (2 * 64 * raw.sum())
    # What remains is that early rows spread over fewer keys; the count of seeing queries takes the rest away.
    assert float(causal) < float(raw_gini) / 2


def test_one_key_that_takes_all_is_the_extreme():
    query, key = torch.full((1, 1, 20, 4), 9.0), torch.zeros(1, 1, 20, 4)
    key[:, :, 7] = 9.0
    found = column_statistics(query, key, statistics=ALL)
    assert float(found["received_gini"]) == pytest.approx(0.95)
    assert float(found["heavy_hitter_mass"]) == pytest.approx(1.0)


@pytest.mark.parametrize(("kv_len", "heavy"), [(1, 1), (10, 1), (11, 2), (25, 3)])
def test_a_tenth_of_the_keys_is_rounded_up(kv_len, heavy):
    query, key = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, kv_len, 4)
    found = column_statistics(query, key, statistics=["heavy_hitter_mass"])["heavy_hitter_mass"]
    assert float(found) == pytest.approx(heavy / kv_len)


def test_no_visible_key_gives_nan():
    query = key = torch.zeros(1, 2, 3, 4)
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    for options in ({"query_mask": nothing}, {"attn_bias": torch.full((3, 3), -math.inf)}):
        found = column_statistics(query, key, statistics=ALL, **options)
        assert all(values.isnan().all() for values in found.values())


def test_memory_is_linear_in_the_lengths(largest_tensor):
    query, key = (torch.randn(1, 1, 4096, 8) for _ in range(2))
    with largest_tensor() as largest:
        column_statistics(query, key, statistics=ALL, causal=True, query_mask=torch.ones(1, 4096, dtype=torch.bool))
    assert largest.numel < 4096 * 4096 / 16


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"statistics": ["gini"]}, ArgumentError, r"names out of received_gini, heavy_hitter_mass; got \['gini'\]"),
        ({"query_mask": torch.ones(1, 3)}, DtypeError, "True = the query counts, got torch.float32"),
        (
            {"query_mask": torch.ones(1, 4).bool()},
            ArgumentError,
            r"\(batch, q_len\) = \(1, 3\), got the shape \(1, 4\)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    query = key = torch.zeros(1, 2, 3, 4)
    with pytest.raises(error, match=message):
        column_statistics(query, key, **{"statistics": ALL, **arguments})
