import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import attention_weights, reference, weights
from regard.functional.impl import blocks

INDICES = {
    "all": (None, None),
    "slices": (slice(1, None, 2), slice(0, 3)),
    "indices": (torch.tensor([4, 0, 1]), torch.tensor([4, 2, 0, 2])),
    "rows by index": (torch.tensor([2]), slice(1, None)),
    "keys by index": (slice(None, -1), torch.tensor([3, 1])),
    "nothing": (slice(0, 0), torch.zeros(0, dtype=torch.int64)),
}


def block_of(dense, rows, keys):
    dense = dense if rows is None else dense[:, :, rows]
    return dense if keys is None else dense[..., keys]


def fitting(case, rows):
    """A case with one query only has row 0 only."""
    return rows % case.q_len if isinstance(rows, torch.Tensor) else rows


@pytest.mark.parametrize("lse", ["computed", "given"])
@pytest.mark.parametrize("wanted", INDICES)
def test_weights_of_a_block_equal_the_dense_float64_ones(case, block_size, wanted, lse, monkeypatch):
    if block_size == "tiny":
        monkeypatch.setattr(weights, "_COPIED", 24)
    query, key, _ = case.tensors(torch.float64)
    scores = case.scores(torch.float64)
    rows, keys = fitting(case, INDICES[wanted][0]), INDICES[wanted][1]
    known = reference.lse(scores) if lse == "given" else None
    found = attention_weights(query, key, rows=rows, keys=keys, lse=known, **case.masking(torch.float64))
    torch.testing.assert_close(found, block_of(reference.weights(scores), rows, keys), rtol=1e-12, atol=1e-13)


def test_weights_are_float32_for_half_precision_inputs(case, dtype):
    query, key, _ = case.tensors(dtype)
    found = attention_weights(query, key, **case.masking(dtype))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), reference.weights(case.scores(dtype)), rtol=1e-5, atol=1e-6)


def test_empty_rows_have_zero_weights():
    query = key = torch.randn(1, 2, 3, 4)
    keep = torch.tensor([[True] * 3, [False] * 3, [True] * 3])
    found = attention_weights(query, key, attn_mask=keep)
    assert (found[:, :, 1] == 0).all()
    torch.testing.assert_close(found.sum(-1)[:, :, [0, 2]], torch.ones(1, 2, 2))


def test_only_the_requested_scores_are_computed_where_the_lse_is_known(largest_tensor):
    length = 8192
    query, key = (torch.randn(1, 2, length, 8) for _ in range(2))
    keep = torch.ones(1, 1, length, length, dtype=torch.bool)
    lse = torch.zeros(1, 2, length)
    index = torch.arange(0, length, 200)
    with largest_tensor(query, key, keep, lse) as largest:
        for options in ({}, {"causal": True}, {"attn_mask": keep}):
            for wanted in (index, slice(0, 40)):
                attention_weights(query, key, rows=wanted, keys=wanted, lse=lse, **options)
    assert largest.numel <= 2 * len(index) ** 2


def test_beside_the_result_only_blocks_are_held(largest_tensor):
    query, key = (torch.randn(1, 2, 1024, 8) for _ in range(2))
    with largest_tensor() as made:
        result = attention_weights(query, key, causal=True)
    large = [numel for numel in made.sizes.values() if numel > blocks._BLOCK_SCORES]
    assert large == [result.numel()]


def test_weights_have_no_gradient_and_ignore_autocast():
    query, key = torch.randn(1, 2, 8, 16, requires_grad=True), torch.randn(1, 2, 8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attention_weights(query, key)
    assert torch.equal(mixed, attention_weights(query, key))
    assert not mixed.requires_grad


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rows": torch.tensor([0, 3])}, ArgumentError, "rows must lie in 0 to 2, got 0 to 3"),
        ({"keys": torch.tensor([-1])}, ArgumentError, "keys must lie in 0 to 4, got -1 to -1"),
        ({"keys": torch.tensor([[1]])}, ArgumentError, r"keys must have one axis, got the shape \(1, 1\)"),
        ({"rows": torch.tensor([True, False, True])}, DtypeError, "rows must be int64, got torch.bool"),
        ({"rows": slice(None, None, -1)}, ArgumentError, "rows must be a slice that goes forwards"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    with pytest.raises(error, match=message):
        attention_weights(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4), **arguments)
