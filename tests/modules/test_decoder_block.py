import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.modules import DecoderBlock, FeedForward, MultiHeadAttention


def block(norm="post", **changes):
    torch.manual_seed(0)
    own = MultiHeadAttention(16, 4, causal=True)
    cross = MultiHeadAttention(changes.pop("cross_dim", 16), 4, kdim=12)
    return DecoderBlock(own, cross, FeedForward(16, 24), norm=norm, **changes)


def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 5, 16), torch.randn(2, 3, 12)


def test_post_norm_is_its_formula():
    layer, (x, context) = block("post"), inputs()

    first = layer.self_attention_norm(x + layer.self_attention(x))
    second = layer.cross_attention_norm(first + layer.cross_attention(first, context))
    expected = layer.feed_forward_norm(second + layer.feed_forward(second))

    torch.testing.assert_close(layer(x, context), expected)


def test_pre_norm_is_its_formula():
    layer, (x, context) = block("pre"), inputs()

    first = x + layer.self_attention(layer.self_attention_norm(x))
    second = first + layer.cross_attention(layer.cross_attention_norm(first), context)
    expected = second + layer.feed_forward(layer.feed_forward_norm(second))

    torch.testing.assert_close(layer(x, context), expected)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_each_mask_hides_its_own_side(norm):
    layer, (x, context) = block(norm), inputs()
    own = torch.tensor([[True, False, False, False, False]]).expand(2, 5)
    other = torch.tensor([[False, False, True]]).expand(2, 3)
    before = layer(x, context, key_padding_mask=own, context_padding_mask=other)

    x, context = x.clone(), context.clone()
    x[:, 0], context[:, 2] = 100.0, 100.0
    after = layer(x, context, key_padding_mask=own, context_padding_mask=other)

    torch.testing.assert_close(after[:, 1:], before[:, 1:])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_falls_on_each_sublayers_output(norm):
    """With nothing but dropout's zeros a pre-norm layer is the identity and a post-norm layer three norms."""
    layer, (x, context) = block(norm, dropout_p=0.5), inputs()
    layer.dropout.forward = torch.zeros_like
    norms = nn.Sequential(layer.self_attention_norm, layer.cross_attention_norm, layer.feed_forward_norm)

    torch.testing.assert_close(layer(x, context), x if norm == "pre" else norms(x))


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match='norm must be "pre" or "post"'):
        block("middle")
    with pytest.raises(ArgumentError, match="must have one embed_dim, got 16 and 8"):
        block(cross_dim=8)
