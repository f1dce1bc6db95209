import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import CrossAttentionCache, MultiHeadAttention

OPTIONS = [{}, {"kdim": 10}, {"num_kv_heads": 2}, {"qk_norm": True}, {"temperature": True}]


def made(**options):
    torch.manual_seed(1)
    return MultiHeadAttention(16, 4, **options).eval().requires_grad_(False)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_step_asks_the_first_context(options, sequence):
    layer, x, cache = made(**options), sequence(6), CrossAttentionCache()
    context, padding = sequence(9, width=options.get("kdim", 16)), torch.arange(9) >= torch.tensor([[9], [4]])

    first = layer(x[:, :1], context, key_padding_mask=padding, cache=cache)
    steps = [layer(x[:, step : step + 1], cache=cache) for step in range(1, 6)]

    expected = layer(x, context, key_padding_mask=padding)
    torch.testing.assert_close(torch.cat([first, *steps], 1), expected, atol=1e-5, rtol=0)


def test_the_context_is_projected_once(sequence, monkeypatch):
    layer, cache = made(), CrossAttentionCache()
    layer(sequence(1), sequence(9), cache=cache)
    monkeypatch.setattr(layer, "key", None)
    monkeypatch.setattr(layer, "value", None)

    assert layer(sequence(1), cache=cache).shape == (2, 1, 16)
    assert cache.num_bytes == 2 * 2 * 9 * 16 * 4


def test_selected_sequences_keep_their_context(sequence):
    layer, x, cache, rows = made(), sequence(1), CrossAttentionCache(), torch.tensor([1, 1, 0])
    context, padding = sequence(9), torch.arange(9) >= torch.tensor([[9], [4]])
    layer(x, context, key_padding_mask=padding, cache=cache)

    cache.select(rows)

    expected = layer(x[rows], context[rows], key_padding_mask=padding[rows])
    torch.testing.assert_close(layer(x[rows], cache=cache), expected, atol=1e-5, rtol=0)


def test_a_second_context_is_refused(sequence):
    layer, cache = made(), CrossAttentionCache()
    layer(sequence(1), sequence(9), cache=cache)

    with pytest.raises(ArgumentError, match="has the context and its padding already"):
        layer(sequence(1), sequence(9), cache=cache)
    with pytest.raises(ArgumentError, match="must be filled once"):
        cache.fill(*cache.held())


def test_the_first_call_needs_a_context(sequence):
    with pytest.raises(ArgumentError, match="needs a context to fill it, got none"):
        made()(sequence(1), cache=CrossAttentionCache())
    with pytest.raises(ArgumentError, match="must hold a context"):
        CrossAttentionCache().held()


def test_a_causal_layer_is_refused(sequence):
    with pytest.raises(ArgumentError, match="for layers with causal=False"):
        made(causal=True)(sequence(1), sequence(9), cache=CrossAttentionCache())


def test_gradients_are_refused(sequence):
    with pytest.raises(ArgumentError, match="A cache is for inference"):
        MultiHeadAttention(16, 4)(sequence(1), sequence(9), cache=CrossAttentionCache())
