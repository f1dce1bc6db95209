import math

import pytest
import torch

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import ROW_STATISTICS, attention, key_mass, reference, row_statistics
from regard.functional.definitions import VALUE_STATISTICS
from regard.functional.impl import rows_call

ALL = tuple(ROW_STATISTICS)
NAMED = ("first_mass", "self_mass", "previous_mass")
FUSED = ("entropy", "normalized_entropy", "effective_keys", "collision", "expected_position", "self_mass")


def exact(name, scores, value, dtype):
    """Return the dense float64 statistic of a call in ``dtype``."""
    arguments = {"headroom": {"dtype": dtype}, **{name: {"value": value.double()} for name in VALUE_STATISTICS}}
    return ROW_STATISTICS[name].reference(scores, **arguments.get(name, {}))


def differences(found, scores, value, rows=None, dtype=torch.float32):
    """Return the largest relative difference to the dense float64 values; NaN must stand in the same places."""
    worst = {}
    for name, values in found.values.items():
        wanted = exact(name, scores, value, dtype)
        if rows is not None:
            wanted = wanted.gather(2, rows.expand(2, -1)[:, None].expand(-1, scores.shape[1], -1))
        assert torch.equal(values.isnan(), wanted.isnan()), name
        difference = (values.double() - wanted).abs() / wanted.abs().clamp_min(1.0)
        worst[name] = float(difference.nan_to_num(0.0).max())
    return worst


@pytest.mark.parametrize("lse", ["computed", "given"])
def test_streaming_equals_the_dense_float64_statistics(case, dtype, block_size, lse):
    query, key, value = case.tensors(dtype)
    scores = case.scores(dtype)
    known = reference.lse(scores).to(torch.promote_types(dtype, torch.float32)) if lse == "given" else None
    found = row_statistics(
        query, key, statistics=ALL, lse=known, value=value, route="streaming", **case.masking(dtype)
    )  # fmt: skip
    eps = torch.finfo(found.lse.dtype).eps
    assert max(differences(found, scores, value, dtype=dtype).values()) < 32 * eps
    torch.testing.assert_close(found.lse.double(), reference.lse(scores), rtol=32 * eps, atol=32 * eps)
    assert torch.equal(found.num_keys.expand(2, case.heads, -1), (scores > -torch.inf).sum(-1))
    assert set(found.route.values()) == {"streaming"}


def some_rows(case, which):
    first = torch.tensor([case.q_len - 1, 0, case.q_len // 2])
    return first if which == "shared" else torch.stack([first, (first + 1) % case.q_len])


@pytest.mark.parametrize("copied", [1 << 20, 1], ids=["at once", "a row at a time"])
@pytest.mark.parametrize("which", ["shared", "own"])
def test_sampled_rows_equal_the_same_rows_of_all(case, block_size, which, copied, kernels, monkeypatch):
    monkeypatch.setattr(rows_call, "_COPIED", copied)
    query, key, value = case.tensors(torch.float32)
    masking, scores, rows = case.masking(torch.float32), case.scores(torch.float32), some_rows(case, which)
    found = row_statistics(query, key, statistics=ALL, rows=rows, value=value, **masking)
    assert found.lse.shape == (2, case.heads, 3)
    assert max(differences(found, scores, value, rows).values()) < 1e-5
    index = rows.expand(2, -1)[:, None].expand(-1, case.heads, -1)
    torch.testing.assert_close(
        found.lse.double(), reference.lse(scores).gather(2, index), rtol=1e-5, atol=1e-5
    )  # fmt: skip
    num_keys = (scores > -torch.inf).sum(-1).gather(2, index)
    assert torch.equal(found.num_keys.expand(2, case.heads, -1), num_keys)


@pytest.mark.parametrize("which", ["shared", "own"])
def test_sampled_rows_take_their_part_of_a_given_lse(case, which):
    query, key, value = case.tensors(torch.float32)
    masking, scores, rows = case.masking(torch.float32), case.scores(torch.float32), some_rows(case, which)
    lse = reference.lse(scores).float()
    found = row_statistics(query, key, statistics=["entropy"], rows=rows, lse=lse, **masking)
    named = row_statistics(query, key, statistics=NAMED, rows=rows, lse=lse, **masking)
    assert set(named.route.values()) == {"fused"}
    assert (
        max(*differences(found, scores, value, rows).values(), *differences(named, scores, value, rows).values()) < 1e-5
    )


def test_rows_of_a_mask_are_copied_few_at_a_time(largest_tensor, monkeypatch):
    monkeypatch.setattr(rows_call, "_COPIED", 1 << 16)
    batch, length = 8, 512
    query, key = (torch.randn(batch, 1, length, 8) for _ in range(2))
    mask = torch.ones(length, length, dtype=torch.bool)
    with largest_tensor() as largest:
        row_statistics(query, key, statistics=["entropy"], attn_mask=mask, rows=torch.arange(length).expand(batch, -1))
    assert largest.numel <= mask.numel()  # all rows of all sequences would be eight times that


def test_fused_identities_equal_the_dense_float64_statistics(case, dtype):
    query, key, value = case.tensors(dtype)
    masking, scores = case.masking(dtype), case.scores(dtype)
    shaped = (masking[name] is not None for name in ("attn_bias", "softcap", "window", "alibi_slopes"))
    supported = not any(shaped)
    supported = supported and not (case.causal and (masking["attn_mask"] is not None or case.q_len != case.kv_len))
    if not supported:
        with pytest.raises(UnsupportedError, match="route='fused' cannot give"):
            row_statistics(query, key, statistics=FUSED, route="fused", **masking)
        return
    names = (*FUSED, "distance") if case.causal else FUSED
    found = row_statistics(query, key, statistics=names, route="fused", **masking)
    eps = torch.finfo(found.lse.dtype).eps
    assert max(differences(found, scores, value).values()) < 64 * eps
    assert set(found.route.values()) == {"fused"}


def test_weights_on_named_keys_come_from_the_given_lse_alone(case):
    query, key, value = case.tensors(torch.float32)
    scores = case.scores(torch.float32)
    found = row_statistics(
        query, key, statistics=NAMED, lse=reference.lse(scores).float(), **case.masking(torch.float32)
    )  # fmt: skip
    assert set(found.route.values()) == {"fused"}
    assert max(differences(found, scores, value).values()) < 1e-5


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
    found = row_statistics(query, key, statistics=ALL, value=torch.ones(1, 1, 3, 5)).values
    torch.testing.assert_close(found["effective_keys"], torch.full((1, 1, 2), 2.0))
    torch.testing.assert_close(found["max_score"], torch.full((1, 1, 2), 180_000.0))
    torch.testing.assert_close(found["min_score"], torch.full((1, 1, 2), -180_000.0))
    torch.testing.assert_close(found["score_spread"], torch.full((1, 1, 2), 180_000.0 * 8**0.5 / 3))


def test_closed_forms_of_uniform_attention():
    query = key = torch.zeros(1, 1, 4, 2)
    found = row_statistics(query, key, statistics=ALL, causal=True, value=torch.ones(1, 1, 4, 9)).values
    counts = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(found["entropy"][0, 0], counts.log())
    torch.testing.assert_close(found["collision"][0, 0], 1 / counts)
    torch.testing.assert_close(found["distance"][0, 0], (counts - 1) / 2)
    assert found["normalized_entropy"][0, 0, 0].isnan()
    assert found["previous_mass"][0, 0, 0].isnan()
    torch.testing.assert_close(found["normalized_entropy"][0, 0, 1:], torch.ones(3))
    assert found["saturated_share"][0, 0].tolist() == [1, 0, 0, 0]
    assert found["score_spread"][0, 0].tolist() == [0, 0, 0, 0]
    assert found["headroom"][0, 0].tolist() == [math.inf] * 4
    torch.testing.assert_close(found["contribution"][0, 0], torch.full((4,), 3.0))
    torch.testing.assert_close(found["first_contribution"][0, 0], 1 / counts)


@pytest.mark.parametrize(
    ("dtype", "bits"), [(torch.float16, 9.0), (torch.bfloat16, 121.0), (torch.float32, 121.0)], ids=str
)
def test_headroom_counts_the_bits_up_to_the_largest_number_of_the_type(dtype, bits):
    query = key = torch.full((1, 1, 1, 4), 8.0, dtype=dtype)
    found = row_statistics(query, key, statistics=["headroom"]).values["headroom"]
    assert float(found) == pytest.approx(bits, abs=0.01)


def test_a_sink_without_value_gives_no_contribution():
    query, key = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 4, 4)
    key[:, :, 0] = 50.0
    value = torch.ones(1, 1, 4, 1)
    value[:, :, 0] = 0.0
    found = row_statistics(query + 50.0, key, statistics=["first_mass", "first_contribution"], value=value).values
    torch.testing.assert_close(found["first_mass"], torch.ones(1, 1, 2))
    assert found["first_contribution"].isnan().all()  # nothing is left of the others: 0 / 0
    found = row_statistics(
        query, key, statistics=["first_mass", "contribution", "first_contribution"], value=value
    ).values
    torch.testing.assert_close(found["first_mass"], torch.full((1, 1, 2), 0.25))
    torch.testing.assert_close(found["contribution"], torch.full((1, 1, 2), 0.75))
    torch.testing.assert_close(found["first_contribution"], torch.zeros(1, 1, 2))


def test_empty_row_has_nan_statistics_and_no_keys():
    query = key = torch.randn(1, 2, 3, 4)
    keep = torch.ones(3, 3, dtype=torch.bool)
    keep[1] = False
    found = row_statistics(query, key, statistics=ALL, attn_mask=keep, value=query)
    for values in found.values.values():
        assert values[:, :, 1].isnan().all()
        assert not values[:, :, 2].isnan().any()
    assert (found.lse[:, :, 1] == -torch.inf).all()
    assert found.num_keys.tolist() == [[[3, 0, 3]]]


def test_no_keys_at_all_is_not_an_error():
    key = torch.zeros(1, 1, 0, 4)
    found = row_statistics(torch.zeros(1, 1, 2, 4), key, statistics=ALL, value=key)
    assert all(values.isnan().all() for values in found.values.values())


def test_statistics_leave_no_gradient_and_ignore_autocast():
    query, key = torch.randn(1, 2, 8, 16, requires_grad=True), torch.randn(1, 2, 8, 16)
    plain = row_statistics(query, key, statistics=["entropy"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = row_statistics(query, key, statistics=["entropy"])
    assert torch.equal(plain.values["entropy"], mixed.values["entropy"])
    assert not plain.values["entropy"].requires_grad


def test_values_are_float32_for_half_precision_inputs():
    query = key = value = torch.randn(1, 2, 8, 16, dtype=torch.bfloat16)
    found = row_statistics(query, key, statistics=ALL, value=value)
    assert {values.dtype for values in (*found.values.values(), found.lse)} == {torch.float32}


def test_key_mass_is_the_weight_on_the_set(case, block_size, kernels):
    query, key, _ = case.tensors(torch.float32)
    keys = torch.rand(2, case.kv_len, generator=torch.Generator().manual_seed(2)) < 0.4
    mass = key_mass(query, key, keys=keys, **case.masking(torch.float32))
    weights = reference.weights(case.scores(torch.float32))
    expected = (weights * keys[:, None, None, :]).sum(-1).masked_fill(case.empty_rows, torch.nan)
    torch.testing.assert_close(mass.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_every_definition_says_what_it_is():
    assert ALL[0] == "entropy"
    for name, definition in ROW_STATISTICS.items():
        assert definition.formula, name
        assert definition.unit in ("nats", "bits", "keys", "tokens", "1"), name
        assert definition.range, name
        assert definition.needs_value == (name in VALUE_STATISTICS)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"statistics": ["entropy", "entrpy"]}, ArgumentError, r"names out of entropy, .* got \['entrpy'\]"),
        ({"route": "dense"}, ArgumentError, "route must be .* got 'dense'"),
        ({"rows": torch.tensor([0, 3])}, ArgumentError, "rows must lie in 0 to 2, got 0 to 3"),
        ({"rows": torch.tensor([0], dtype=torch.int32)}, DtypeError, "rows must be int64, got torch.int32"),
        (
            {"rows": torch.zeros(2, 1, dtype=torch.int64)},
            ArgumentError,
            r"\(batch, rows\) with the batch of 1, got .* \(2, 1\)",
        ),
        ({"statistics": ["contribution"]}, ArgumentError, "contribution must be given the values, got none"),
        (
            {"statistics": ["contribution"], "value": torch.zeros(1, 2, 4, 4)},
            ArgumentError,
            r"beginning with \(1, 2, 3\)",
        ),
        ({"statistics": ["contribution"], "value": torch.zeros(1, 2, 3, 4).long()}, DtypeError, "got torch.int64"),
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
