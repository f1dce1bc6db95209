import math

import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.functional import additive, additive_attention, attention, cosine, dot, general, qk_norm, reference, scoring


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scoring, "_BLOCK_ELEMENTS", 1)


def parts(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    tensors = {"query": draw(2, 3, 5, 4), "key": draw(2, 3, 6, 7), "value": draw(2, 3, 6, 2)}
    weights = {"query_weight": draw(4, 8), "key_weight": draw(7, 8), "vector": draw(8)}
    return tensors, weights


def test_dot_is_the_scaled_product():
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    torch.testing.assert_close(dot(query, key), query @ key.mT / 2)
    torch.testing.assert_close(dot(query, key, scale=1.0), query @ key.mT)


def test_general_is_a_bilinear_form_shared_or_per_head():
    query, key, weight = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 6), torch.randn(2, 4, 6)
    expected = torch.einsum("bhqd,hde,bhke->bhqk", query, weight, key)
    torch.testing.assert_close(general(query, key, weight), expected)
    torch.testing.assert_close(general(query, key, weight[0])[:, 0], expected[:, 0])


def test_general_needs_no_matrix_to_attend():
    query, key, value = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 6), torch.randn(1, 2, 5, 6)
    weight = torch.randn(4, 6)
    expected = general(query, key, weight).softmax(-1) @ value
    torch.testing.assert_close(attention(query @ weight, key, value, scale=1.0), expected)


def test_cosine_ignores_lengths_and_stays_within_one():
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    found = cosine(query, key)
    expected = torch.nn.functional.cosine_similarity(query[:, :, :, None], key[:, :, None], dim=-1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(cosine(query * 100, key / 100), found)
    assert (cosine(torch.zeros(1, 2, 3, 4), key) == 0).all()


def test_qk_norm_bounds_the_scores_by_its_scale():
    query, key = (1000 * torch.randn(1, 2, 3, 4)).half(), torch.randn(1, 2, 5, 4).half()
    scale = torch.tensor(math.log2(30.0), requires_grad=True)
    unit_query, unit_key = qk_norm(query, key, scale)
    assert unit_query.dtype == unit_key.dtype == torch.float16
    scores = reference.scores(unit_query.float(), unit_key.float(), scale=1.0)
    torch.testing.assert_close(scores, math.log2(30.0) * cosine(query.float(), key.float()), rtol=0, atol=0.02)
    unit_query.sum().backward()
    assert scale.grad is not None


def test_temperature_divides_and_learns():
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    temperature = torch.tensor([2.0, 0.5], requires_grad=True)
    found = cosine(query, key, temperature=temperature)
    torch.testing.assert_close(found[:, 0], cosine(query, key)[:, 0] / 2)
    torch.testing.assert_close(found[:, 1], cosine(query, key)[:, 1] * 2)
    found.square().sum().backward()
    assert (temperature.grad != 0).all()
    torch.testing.assert_close(dot(query, key, temperature=torch.tensor(4.0)), dot(query, key) / 4)
    with pytest.raises(ArgumentError, match="a number or one per head, got the shape"):
        dot(query, key, temperature=torch.ones(2, 1))


def test_additive_is_the_network_of_the_paper():
    tensors, weights = parts()
    found = additive(tensors["query"], tensors["key"], **weights)
    for batch, head, row, column in [(0, 0, 0, 0), (1, 2, 4, 5)]:
        hidden = tensors["query"][batch, head, row] @ weights["query_weight"]
        hidden = torch.tanh(hidden + tensors["key"][batch, head, column] @ weights["key_weight"])
        torch.testing.assert_close(found[batch, head, row, column], hidden @ weights["vector"])


def test_additive_attention_and_its_gradients_do_not_depend_on_the_block(request):
    tensors, weights = parts()
    keep = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    keep[0, :, 2] = False
    leaves = [*tensors.values(), *weights.values()]
    expected = reference.weights(
        additive(tensors["query"], tensors["key"], **weights).masked_fill(~keep, -torch.inf)
    ) @ tensors["value"]  # fmt: skip
    exact = torch.autograd.grad(expected.square().sum(), leaves)
    request.getfixturevalue("small_blocks")
    found = additive_attention(**tensors, **weights, attn_mask=keep)
    torch.testing.assert_close(found, expected)
    assert (found[0, :, 2] == 0).all()
    for gradient, wanted in zip(torch.autograd.grad(found.square().sum(), leaves), exact, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_additive_attention_refuses_a_mask_of_numbers():
    tensors, weights = parts()
    with pytest.raises(DtypeError, match=r"True = may attend, got torch\.float32"):
        additive_attention(**tensors, **weights, attn_mask=torch.ones(5, 6))
