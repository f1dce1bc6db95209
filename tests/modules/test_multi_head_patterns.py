"""A layer with a pattern attends by it, and says how far it is from what its weights were made for."""

import copy

import pytest
import torch

from regard._errors import ArgumentError
from regard.functional import patterns
from regard.modules import MultiHeadAttention, ResidualAttention
from regard.modules.cache import DynamicCache

PATTERN = patterns.longformer(9, [0, 40])


@pytest.mark.parametrize("causal", [False, True])
def test_the_pattern_is_the_dense_mask(causal):
    x, padding = torch.randn(2, 90, 16, requires_grad=True), torch.rand(2, 90) < 0.2
    layer = MultiHeadAttention(16, 4, num_kv_heads=2, causal=causal, rotary=1000.0, pattern=PATTERN)
    dense = copy.deepcopy(layer)
    dense.pattern = None
    found = layer(x, key_padding_mask=padding)
    wanted = dense(x, key_padding_mask=padding, attn_mask=PATTERN.mask(90, 90))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for grad, exact in zip(
        torch.autograd.grad(found.sum(), [x, *layer.parameters()]),
        torch.autograd.grad(wanted.sum(), [x, *dense.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(grad, exact, rtol=1e-3, atol=1e-4)


def test_the_error_is_measured_with_the_layers_own_heads():
    x, padding = torch.randn(2, 90, 16), torch.rand(2, 90) < 0.2
    layer = MultiHeadAttention(16, 2, causal=True)
    whole = layer.pattern_error(x, patterns.sliding(90), key_padding_mask=padding)
    assert float(whole.lost_mass.max()) < 1e-6
    some = layer.pattern_error(x, PATTERN, key_padding_mask=padding)
    assert 0 < float(some.lost_mass.min()) < 1
    layer.pattern = PATTERN
    assert torch.equal(layer.pattern_error(x, key_padding_mask=padding).lost_mass, some.lost_mass)


def test_a_layer_trains_by_its_pattern():
    layer = ResidualAttention(MultiHeadAttention(16, 2, pattern=PATTERN), norm="pre")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    x, wanted = torch.randn(1, 70, 16), torch.randn(1, 70, 16)
    losses = []
    for _ in range(5):
        loss = (layer(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_what_a_pattern_cannot_do_is_refused():
    x = torch.randn(1, 5, 16)
    layer = MultiHeadAttention(16, 2, causal=True)
    with pytest.raises(ArgumentError, match="pattern_error needs a pattern"):
        layer.pattern_error(x)
    layer.pattern = PATTERN
    with pytest.raises(ArgumentError, match="A cache does not say where its keys stand"):
        layer(x, cache=DynamicCache())
