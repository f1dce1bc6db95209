import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import head_similarity, reference


def dense(scores, measure, query_mask):
    """Return the similarity of all pairs of heads from the dense scores, one pair at a time."""
    maps = reference.weights(scores)
    seen = scores > -torch.inf
    logs = scores - reference.lse(scores)[..., None]
    found = torch.empty(scores.shape[0], scores.shape[1], scores.shape[1], dtype=scores.dtype)
    for sequence, a, b in torch.cartesian_prod(*(torch.arange(size) for size in found.shape)).tolist():
        rows = query_mask[sequence]
        first, second = maps[sequence, a, rows], maps[sequence, b, rows]
        if measure == "cosine":
            found[sequence, a, b] = (first * second).sum() / (first.norm() * second.norm())
            continue
        used, allowed = seen[sequence, a, rows], seen[sequence, b, rows]
        terms = first[used] * (logs[sequence, a, rows] - logs[sequence, b, rows])[used]
        total = terms.sum() if not (used & ~allowed).any() else torch.tensor(torch.inf)
        found[sequence, a, b] = total / used.any(-1).sum()
    return found


@pytest.mark.parametrize("lse", ["computed", "given"])
@pytest.mark.parametrize("counting", ["all", "some"])
@pytest.mark.parametrize("measure", ["cosine", "kl"])
def test_similarity_equals_the_dense_float64_one(case, block_size, measure, counting, lse):
    query, key, _ = case.tensors(torch.float64)
    scores = case.scores(torch.float64)
    counted = torch.ones(2, case.q_len, dtype=torch.bool)
    if counting == "some":
        counted = torch.rand(2, case.q_len, generator=torch.Generator().manual_seed(3)) < 0.6
    found = head_similarity(
        query, key, measure=measure,
        query_mask=None if counting == "all" else counted,
        lse=reference.lse(scores) if lse == "given" else None,
        **case.masking(torch.float64),
    )  # fmt: skip
    torch.testing.assert_close(found, dense(scores, measure, counted), rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("measure", ["cosine", "kl"])
def test_similarity_in_lower_precision_is_that_of_float32_sums(case, dtype, measure):
    query, key, _ = case.tensors(dtype)
    found = head_similarity(query, key, measure=measure, **case.masking(dtype))
    expected = dense(case.scores(dtype), measure, torch.ones(2, case.q_len, dtype=torch.bool))
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_a_head_equals_itself_and_its_copy():
    query = torch.randn(2, 1, 7, 4).expand(-1, 3, -1, -1)
    key = torch.randn(2, 1, 7, 4)
    torch.testing.assert_close(head_similarity(query, key), torch.ones(2, 3, 3))
    torch.testing.assert_close(head_similarity(query, key, measure="kl"), torch.zeros(2, 3, 3), rtol=0, atol=1e-6)


def test_divergence_is_infinite_only_where_the_other_head_may_not_look():
    query = key = torch.randn(1, 2, 4, 8)
    keep = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    keep[:, 1, :, 0] = False
    found = head_similarity(query, key, measure="kl", attn_mask=keep)[0]
    assert found[0, 1] == torch.inf
    assert torch.isfinite(found[1, 0])
    far = torch.zeros(1, 2, 1, 4)
    far[:, 0, :, 0] = 400.0  # both may look everywhere; weights of e^-400 are 0 in float32, their logarithms are not
    keys = torch.eye(4)[None, None].expand(1, 2, -1, -1)
    assert torch.isfinite(head_similarity(far, keys, measure="kl")).all()


def test_no_counted_row_gives_nan():
    query = key = torch.randn(1, 2, 4, 8)
    for measure in ("cosine", "kl"):
        found = head_similarity(query, key, measure=measure, query_mask=torch.zeros(1, 4, dtype=torch.bool))
        assert found.isnan().all()


def test_memory_is_linear_in_the_lengths(largest_tensor):
    query, key = (torch.randn(1, 4, 2048, 8) for _ in range(2))
    keep = torch.ones(1, 4, 1, 2048, dtype=torch.bool)
    with largest_tensor() as largest:
        for measure in ("cosine", "kl"):
            head_similarity(query, key, measure=measure, causal=True, attn_mask=keep)
    assert largest.numel < 4 * 2048 * 2048 / 16


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"measure": "cos"}, ArgumentError, 'measure must be "cosine" or "kl", got \'cos\''),
        ({"query_mask": torch.ones(1, 3)}, DtypeError, "True = the query counts, got torch.float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    query = key = torch.zeros(1, 2, 3, 4)
    with pytest.raises(error, match=message):
        head_similarity(query, key, **arguments)
