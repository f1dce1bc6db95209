"""Layers with positions of each kind, and the uncached pass that a cache must repeat."""

import pytest
import torch

from regard.modules import MultiHeadAttention

LAYERS = {
    "plain": {},
    "rotary": {"rotary": 100.0},
    "grouped": {"num_kv_heads": 2, "rotary": 100.0},
    "one key head": {"num_kv_heads": 1},
    "qk norm": {"qk_norm": True, "rotary": 100.0},
    "temperature": {"temperature": True},
}


@pytest.fixture
def make_layer():
    def make(kind="rotary", **options):
        torch.manual_seed(1)
        layer = MultiHeadAttention(16, 4, causal=True, **LAYERS[kind], **options).eval()
        for parameter in layer.parameters():
            parameter.data = parameter.data * 2  # weights far from uniform
        return layer.requires_grad_(False)

    return make


@pytest.fixture
def sequence():
    def draw(length, batch=2, width=16, seed=0):
        return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(seed))

    return draw


@pytest.fixture
def fed():
    """Return a function that feeds ``x`` to ``layer`` in chunks of ``sizes``, the last of them repeated."""

    def feed(layer, x, cache, sizes=(1,), keep=None):
        outputs, start, sizes = [], 0, list(sizes)
        while start < x.shape[1]:
            end = min(start + (sizes.pop(0) if len(sizes) > 1 else sizes[0]), x.shape[1])
            mask = None if keep is None or keep[:, start:end].all() else ~keep[:, start:end]
            outputs.append(layer(x[:, start:end], key_padding_mask=mask, cache=cache))
            start = end
        return torch.cat(outputs, 1)

    return feed


@pytest.fixture
def alone():
    """Return a function that runs each sequence by itself, without its padding and without a cache."""

    def run(layer, x, keep, window=None, num_sinks=0):
        out = torch.zeros_like(x)
        for row, real in enumerate(keep):
            part = x[row : row + 1, real]
            mask = None if window is None else window_mask(part.shape[1], window, num_sinks)
            out[row, real] = layer(part, attn_mask=mask)[0]
        return out

    return run


def window_mask(length, window, num_sinks):
    """True where a key is at most window - 1 places back, or among the first."""
    places = torch.arange(length)
    distance = places[:, None] - places
    return (distance >= 0) & ((distance < window) | (places < num_sinks))
