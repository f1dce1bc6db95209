"""Numbers at the edge of their type, and none at all: where they go, on every backend."""

import pytest
import torch

from regard.functional import ROW_STATISTICS, attention, reference, row_statistics
from regard.functional.impl import native

NEEDS_NATIVE = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
NATIVE = pytest.param("native", marks=NEEDS_NATIVE)
BACKENDS = ["reference", "sdpa", "chunked", NATIVE]
LOSES_NAN = pytest.mark.xfail(
    reason="PyTorch's CPU kernel takes a short row of NaN for one without keys; ends when it lets NaN through",
    strict=False,  # how short, the processor says
)
ROUTES = ["streaming", NATIVE]


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=["float32", "bfloat16", "float16"])
def dtype(request):
    return request.param


@pytest.fixture
def tensors(dtype):
    """Return query, key and value of two sequences with four heads over two, 6 queries and 40 keys."""
    shapes = ((2, 4, 6, 8), (2, 2, 40, 8), (2, 2, 40, 5))
    return [torch.randn(shape).to(dtype) for shape in shapes]


def nan_rows(output):
    """Return which rows are NaN, (batch, heads, q_len), and make sure that none is NaN in part."""
    found = output.isnan()
    assert torch.equal(found.any(-1), found.all(-1))
    return found.any(-1)


def untouched(found, plain, batch, heads):
    """Return whether ``found`` is ``plain`` bit for bit but for some heads of one sequence."""
    touched = torch.zeros(found.shape[:2], dtype=torch.bool)
    touched[batch, heads] = True
    return torch.equal(found[~touched], plain[~touched])


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("causal", [False, True])
def test_nan_in_a_query_makes_its_row_nan_and_no_other(impl, tensors, causal):
    query, key, value = tensors
    plain = attention(query, key, value, causal=causal, impl=impl)
    query = query.clone()
    query[1, 2, 3, 7] = torch.nan
    found = attention(query, key, value, causal=causal, impl=impl)
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[1, 2, 3] = True
    assert torch.equal(nan_rows(found), expected)
    assert torch.equal(found[~expected], plain[~expected])


@pytest.mark.parametrize("impl", ["reference", pytest.param("sdpa", marks=LOSES_NAN), "chunked", NATIVE])
def test_nan_in_a_query_of_few_keys_makes_its_row_nan(impl, tensors):
    query, key, value = tensors
    query = query.clone()
    query[1, 2, 3, 7] = torch.nan
    found = nan_rows(attention(query, key[:, :, :3], value[:, :, :3], impl=impl))
    assert found[1, 2, 3]
    assert found.sum() == 1


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("what", ["key", "value"])
@pytest.mark.parametrize("by", ["attn_mask", "causal"])
def test_nan_in_a_key_or_value_reaches_every_row_that_sees_it_and_no_other_sequence_or_head(impl, tensors, what, by):
    query, key, value = tensors
    sees = torch.zeros(6, dtype=torch.bool)
    sees[3:] = True
    at = 37  # the first of the rows 3, 4 and 5 stands here
    keep = torch.ones(6, 40, dtype=torch.bool)
    keep[:3, at] = False
    words = {"attn_mask": keep} if by == "attn_mask" else {"causal": True}
    plain = attention(query, key, value, impl=impl, **words)
    poisoned = {"key": key.clone(), "value": value.clone()}
    poisoned[what][0, 1, at] = torch.nan
    found = attention(query, **poisoned, impl=impl, **words)
    assert nan_rows(found)[0, 2:, sees].all()
    assert untouched(found, plain, 0, slice(2, 4))


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_bias_that_is_no_number_makes_its_row_nan_and_no_other(impl, tensors, number):
    if impl == "sdpa" and number == torch.inf and tensors[0].dtype != torch.float32:
        pytest.xfail("PyTorch's CPU kernel takes +inf for a large number in half precision; ends when it gives NaN")
    query, key, value = tensors
    bias = torch.zeros(2, 4, 6, 40, dtype=query.dtype)
    plain = attention(query, key, value, attn_bias=bias, impl=impl)
    bias[0, 3, 2, 11] = number
    found = attention(query, key, value, attn_bias=bias, impl=impl)
    expected = torch.zeros(2, 4, 6, dtype=torch.bool)
    expected[0, 3, 2] = True
    assert torch.equal(nan_rows(found), expected)
    assert torch.equal(found[~expected], plain[~expected])


@pytest.mark.parametrize("impl", ["reference", "chunked", NATIVE])
def test_a_softcap_does_not_hide_nan(impl, tensors):
    query, key, value = tensors
    query = query.clone()
    query[0, 0, 1, 0] = torch.nan
    found = nan_rows(attention(query, key, value, softcap=2.0, impl=impl))
    assert found[0, 0, 1]
    assert found.sum() == 1


@pytest.mark.parametrize("impl", ["chunked", NATIVE])
def test_nan_reaches_the_gradients_of_what_it_met(impl, tensors):
    query, key, value = (tensor.clone().requires_grad_() for tensor in tensors)
    poisoned = query.detach().clone()
    poisoned[1, 3, 2] = torch.nan
    poisoned.requires_grad_()
    attention(poisoned, key, value, impl=impl).float().square().sum().backward()
    assert poisoned.grad[1, 3, 2].isnan().all()
    assert key.grad[1, 1].isnan().all()
    assert value.grad[1, 1].isnan().all()
    for leaf in (key, value):
        assert leaf.grad[0].isfinite().all()
        assert leaf.grad[1, 0].isfinite().all()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("seen", ["all keys", "some keys"])
def test_statistics_of_a_row_with_nan_are_nan(route, tensors, seen):
    query, key, value = tensors
    query = query.clone()
    query[0, 1, 4] = torch.nan
    keep = torch.ones(40, dtype=torch.bool)
    keep[::3] = seen == "all keys"
    found = row_statistics(
        query, key, statistics=tuple(ROW_STATISTICS), value=value, attn_mask=keep, route=route
    )  # fmt: skip
    for name, values in {**found.values, "lse": found.lse}.items():
        assert values[0, 1, 4].isnan(), name
        assert values.isnan().sum() == 1, name


@pytest.mark.parametrize("impl", BACKENDS)
def test_scores_of_1e30_give_the_value_of_the_largest(impl):
    query, key, value = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 40, 8), torch.randn(2, 4, 40, 5)
    largest = (query.double() @ key.double().mT).argmax(-1)
    expected = value.gather(2, largest[..., None].expand(2, 4, 6, 5))
    found = attention(query * 1e15, key * 1e15, value, impl=impl)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("impl", BACKENDS)
def test_scores_that_are_far_below_0_count_like_any_other(impl):
    query, key, value = torch.randn(2, 4, 6, 8).abs(), -torch.randn(2, 4, 40, 8).abs(), torch.randn(2, 4, 40, 5)
    largest = (query.double() @ key.double().mT).argmax(-1)
    expected = value.gather(2, largest[..., None].expand(2, 4, 6, 5))
    torch.testing.assert_close(attention(query * 1e10, key * 1e10, value, impl=impl), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("impl", BACKENDS)
def test_scores_that_overflow_make_the_row_nan(impl):
    query, key, value = torch.full((1, 1, 2, 8), 1e30), torch.full((1, 1, 4, 8), 1e30), torch.ones(1, 1, 4, 5)
    query[:, :, 1] = 1.0
    key[:, :, 1:] *= -1
    found = nan_rows(attention(query, key, value, impl=impl))
    assert found[0, 0].tolist() == [True, False]


@pytest.mark.parametrize("impl", BACKENDS)
def test_denormal_numbers_are_no_zeros(impl):
    query, key = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 40, 8)
    value = torch.randn(1, 2, 40, 5) * 1e-40
    weights = reference.weights(reference.scores(query.double(), key.double()))
    found = attention(query, key, value, impl=impl)
    smallest = 2.0**-149
    assert ((found.double() - weights @ value.double()).abs() <= 64 * smallest).all()
    tiny = attention(query * 1e-40, key, value, impl=impl)
    mean = value.double().mean(2, keepdim=True)
    assert ((tiny.double() - mean).abs() <= 64 * smallest).all()


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("causal", [False, True])
def test_one_token_attends_to_itself(impl, dtype, causal):
    query, key, value = (torch.randn(2, 3, 1, 8).to(dtype).requires_grad_() for _ in range(3))
    output = attention(query, key, value, causal=causal, impl=impl)
    assert torch.equal(output, value)
    output.backward(torch.ones_like(output))
    assert (value.grad - 1).abs().max() <= 8 * torch.finfo(dtype).eps
    assert query.grad.abs().max() <= 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("words", [{}, {"causal": True}, {"attn_mask": True}, {"attn_bias": 0.5}], ids=str)
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(0, 3, 3), (2, 0, 3), (2, 0, 0), (2, 3, 0)])
def test_empty_axes_give_an_output_of_zeros_and_gradients_of_zero(impl, words, batch, q_len, kv_len, dtype):
    if words.get("causal") and q_len > kv_len:
        words = {}
    words = {
        name: given if name == "causal" else torch.full((q_len, kv_len), given, dtype=None if given is True else dtype)
        for name, given in words.items()
    }
    query = torch.randn(batch, 2, q_len, 4).to(dtype).requires_grad_()
    key, value = (torch.randn(batch, 2, kv_len, width).to(dtype).requires_grad_() for width in (4, 5))
    output = attention(query, key, value, impl=impl, **words)
    assert output.shape == (batch, 2, q_len, 5)
    assert (output == 0).all()
    output.sum().backward()
    assert all((leaf.grad == 0).all() for leaf in (query, key, value))
