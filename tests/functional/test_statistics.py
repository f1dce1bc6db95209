import pytest
import torch

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import ROW_STATISTICS, attention, key_mass, received_mass, reference, row_statistics

ALL = tuple(ROW_STATISTICS)
FUSED = ("entropy", "normalized_entropy", "effective_keys", "collision", "expected_position", "self_mass")


def differences(found, scores, rows=None):
    """Return the largest relative difference to the dense float64 values; NaN must stand in the same places."""
    worst = {}
    for name, values in found.values.items():
        exact = ROW_STATISTICS[name].reference(scores)
        exact = exact if rows is None else exact[:, :, rows]
        assert torch.equal(values.isnan(), exact.isnan()), name
        difference = (values.double() - exact).abs() / exact.abs().clamp_min(1.0)
        worst[name] = float(difference.nan_to_num(0.0).max())
    return worst


@pytest.mark.parametrize("lse", ["computed", "given"])
def test_streaming_equals_the_dense_float64_statistics(case, dtype, block_size, lse):
    query, key, _ = case.tensors(dtype)
    scores = case.scores(dtype)
    known = reference.lse(scores).to(torch.promote_types(dtype, torch.float32)) if lse == "given" else None
    found = row_statistics(
        query, key, statistics=ALL, lse=known, route="streaming", **case.masking(dtype)
    )  # fmt: skip
    eps = torch.finfo(found.lse.dtype).eps
    assert max(differences(found, scores).values()) < 32 * eps
    torch.testing.assert_close(found.lse.double(), reference.lse(scores), rtol=32 * eps, atol=32 * eps)
    assert torch.equal(found.num_keys.expand(2, case.heads, -1), (scores > -torch.inf).sum(-1))
    assert set(found.route.values()) == {"streaming"}


def test_sampled_rows_equal_the_same_rows_of_all(case, block_size):
    query, key, _ = case.tensors(torch.float32)
    rows = torch.tensor([case.q_len - 1, 0, case.q_len // 2])
    found = row_statistics(query, key, statistics=ALL, rows=rows, **case.masking(torch.float32))
    assert found.lse.shape == (2, case.heads, 3)
    assert max(differences(found, case.scores(torch.float32), rows).values()) < 1e-5


def test_fused_identities_equal_the_dense_float64_statistics(case, dtype):
    query, key, _ = case.tensors(dtype)
    masking, scores = case.masking(dtype), case.scores(dtype)
    supported = masking["attn_bias"] is None and case.softcap is None
    supported = supported and not (case.causal and (masking["attn_mask"] is not None or case.q_len != case.kv_len))
    if not supported:
        with pytest.raises(UnsupportedError, match="route='fused' cannot give"):
            row_statistics(query, key, statistics=FUSED, route="fused", **masking)
        return
    names = (*FUSED, "distance") if case.causal else FUSED
    found = row_statistics(query, key, statistics=names, route="fused", **masking)
    eps = torch.finfo(found.lse.dtype).eps
    assert max(differences(found, scores).values()) < 64 * eps
    assert set(found.route.values()) == {"fused"}


def test_weights_on_named_keys_come_from_the_given_lse_alone(case):
    query, key, _ = case.tensors(torch.float32)
    scores = case.scores(torch.float32)
    names = ("first_mass", "self_mass", "previous_mass")
    found = row_statistics(
        query, key, statistics=names, lse=reference.lse(scores).float(), **case.masking(torch.float32)
    )  # fmt: skip
    assert set(found.route.values()) == {"fused"}
    assert max(differences(found, scores).values()) < 1e-5


@pytest.mark.parametrize("route", ["fused", "streaming"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_entropy_of_collapsed_heads_in_half_precision(route, dtype):
    generator = torch.Generator().manual_seed(0)
    query = (15 * torch.randn(2, 4, 128, 64, generator=generator)).to(dtype)
    key = torch.randn(2, 4, 128, 64, generator=generator).to(dtype)
    scores = reference.scores(query.double(), key.double())
    exact = reference.STATISTICS["entropy"](scores)
    assert scores.max() > 70
    assert exact.mean() < 0.5
    found = row_statistics(query, key, statistics=["entropy"], route=route).values["entropy"]
    assert (found - exact).abs().max() < 0.002


def test_entropy_through_bfloat16_values_would_miss_that_bound():
    generator = torch.Generator().manual_seed(0)
    query = (15 * torch.randn(2, 4, 128, 64, generator=generator)).bfloat16()
    key = torch.randn(2, 4, 128, 64, generator=generator).bfloat16()
    exact = reference.STATISTICS["entropy"](reference.scores(query.double(), key.double()))
    averaged = attention(query, key, key, impl="sdpa")
    lse = reference.lse(reference.scores(query.double(), key.double()))
    rounded = lse - torch.linalg.vecdot(query.double(), averaged.double()) / 8
    assert (rounded - exact).abs().max() > 0.02


def test_extreme_scores_stay_finite():
    query = torch.full((1, 1, 2, 4), 300.0)
    key = torch.stack([torch.full((4,), sign * 300.0) for sign in (1.0, -1.0, 1.0)])[None, None]
    found = row_statistics(query, key, statistics=ALL).values
    torch.testing.assert_close(found["effective_keys"], torch.full((1, 1, 2), 2.0))
    torch.testing.assert_close(found["max_score"], torch.full((1, 1, 2), 180_000.0))


def test_closed_forms_of_uniform_attention():
    query = key = torch.zeros(1, 1, 4, 2)
    found = row_statistics(query, key, statistics=ALL, causal=True).values
    counts = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(found["entropy"][0, 0], counts.log())
    torch.testing.assert_close(found["collision"][0, 0], 1 / counts)
    torch.testing.assert_close(found["distance"][0, 0], (counts - 1) / 2)
    assert found["normalized_entropy"][0, 0, 0].isnan()
    assert found["previous_mass"][0, 0, 0].isnan()
    torch.testing.assert_close(found["normalized_entropy"][0, 0, 1:], torch.ones(3))
    assert found["saturated_share"][0, 0].tolist() == [1, 0, 0, 0]


def test_empty_row_has_nan_statistics_and_no_keys():
    query = key = torch.randn(1, 2, 3, 4)
    keep = torch.ones(3, 3, dtype=torch.bool)
    keep[1] = False
    found = row_statistics(query, key, statistics=ALL, attn_mask=keep)
    for values in found.values.values():
        assert values[:, :, 1].isnan().all()
        assert not values[:, :, 2].isnan().any()
    assert (found.lse[:, :, 1] == -torch.inf).all()
    assert found.num_keys.tolist() == [[[3, 0, 3]]]


def test_no_keys_at_all_is_not_an_error():
    found = row_statistics(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 0, 4), statistics=ALL)
    assert all(values.isnan().all() for values in found.values.values())


def test_statistics_leave_no_gradient_and_ignore_autocast():
    query, key = torch.randn(1, 2, 8, 16, requires_grad=True), torch.randn(1, 2, 8, 16)
    plain = row_statistics(query, key, statistics=["entropy"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = row_statistics(query, key, statistics=["entropy"])
    assert torch.equal(plain.values["entropy"], mixed.values["entropy"])
    assert not plain.values["entropy"].requires_grad


def test_values_are_float32_for_half_precision_inputs():
    query = key = torch.randn(1, 2, 8, 16, dtype=torch.bfloat16)
    found = row_statistics(query, key, statistics=ALL)
    assert {values.dtype for values in (*found.values.values(), found.lse)} == {torch.float32}


def test_key_mass_is_the_weight_on_the_set(case, block_size):
    query, key, _ = case.tensors(torch.float32)
    keys = torch.rand(2, case.kv_len, generator=torch.Generator().manual_seed(2)) < 0.4
    mass = key_mass(query, key, keys=keys, **case.masking(torch.float32))
    weights = reference.weights(case.scores(torch.float32))
    expected = (weights * keys[:, None, None, :]).sum(-1).masked_fill(case.empty_rows, torch.nan)
    torch.testing.assert_close(mass.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_received_mass_sums_the_columns(case, block_size):
    query, key, _ = case.tensors(torch.float32)
    counted = torch.rand(2, case.q_len, generator=torch.Generator().manual_seed(3)) < 0.6
    weights = reference.weights(case.scores(torch.float32))
    received = received_mass(query, key, **case.masking(torch.float32))
    torch.testing.assert_close(received.double(), weights.sum(2), rtol=1e-5, atol=1e-5)
    lse = reference.lse(case.scores(torch.float32)).float()
    some = received_mass(query, key, query_mask=counted, lse=lse, **case.masking(torch.float32))
    expected = (weights * counted[:, None, :, None]).sum(2)
    torch.testing.assert_close(some.double(), expected, rtol=1e-5, atol=1e-5)


def test_every_definition_says_what_it_is():
    assert ALL[0] == "entropy"
    for name, definition in ROW_STATISTICS.items():
        assert definition.formula, name
        assert definition.unit in ("nats", "keys", "tokens", "1"), name
        assert definition.range, name


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"statistics": ["entropy", "entrpy"]}, ArgumentError, r"names out of entropy, .* got \['entrpy'\]"),
        ({"route": "dense"}, ArgumentError, "route must be .* got 'dense'"),
        ({"rows": torch.tensor([0, 3])}, ArgumentError, "rows must lie in 0 to 2, got 0 to 3"),
        ({"rows": torch.tensor([0], dtype=torch.int32)}, DtypeError, "rows must be int64 of one axis, got torch.int32"),
        ({"attn_mask": torch.zeros(3, 3)}, DtypeError, "True = may attend"),
        ({"statistics": ["max_weight"], "route": "fused"}, UnsupportedError, "max_weight: it needs a pass over all"),
        ({"statistics": ["distance"], "route": "fused"}, UnsupportedError, "distance: it needs a causal call"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    query = key = torch.zeros(1, 2, 3, 4)
    with pytest.raises(error, match=message):
        row_statistics(query, key, **{"statistics": ["entropy"], **arguments})
