import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.modules import FeedForward, MultiHeadAttention, ResidualAttention


def block(**options):
    torch.manual_seed(2)
    feed_forward = FeedForward(16, 32) if options.pop("feed_forward", True) else None
    layer = ResidualAttention(MultiHeadAttention(16, 4, kdim=options.pop("kdim", None)), feed_forward, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer.double()


def sequence(width=16):
    return torch.randn(2, 5, width, dtype=torch.float64)


def test_post_norm_follows_its_formula():
    layer, x = block(norm="post"), sequence()

    attended = layer.attention_norm(x + layer.attention(x))

    torch.testing.assert_close(layer(x), layer.feed_forward_norm(attended + layer.feed_forward(attended)))


def test_pre_norm_follows_its_formula():
    layer, x = block(norm="pre"), sequence()

    attended = x + layer.attention(layer.attention_norm(x))

    torch.testing.assert_close(layer(x), attended + layer.feed_forward(layer.feed_forward_norm(attended)))


@pytest.mark.parametrize("norm_first", [False, True])
def test_equals_the_layer_of_torch(norm_first):
    layer = block(norm="pre" if norm_first else "post")
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, activation="gelu", norm_first=norm_first, batch_first=True, dropout=0.0, dtype=torch.float64
    )
    ours = dict(layer.named_parameters())
    with torch.no_grad():
        for leaf in ("weight", "bias"):
            packed = torch.cat([ours[f"attention.{name}.{leaf}"] for name in ("query", "key", "value")])
            getattr(theirs.self_attn, f"in_proj_{leaf}").copy_(packed)
            pairs = {
                "self_attn.out_proj": "attention.output",
                "linear1": "feed_forward.hidden",
                "linear2": "feed_forward.output",
                "norm1": "attention_norm",
                "norm2": "feed_forward_norm",
            }
            for other, name in pairs.items():
                theirs.get_parameter(f"{other}.{leaf}").copy_(ours[f"{name}.{leaf}"])
    x, padding = sequence(), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    expected = theirs(x, src_key_padding_mask=padding)

    torch.testing.assert_close(layer(x, key_padding_mask=padding)[~padding], expected[~padding])


def test_attention_alone():
    layer, x = block(norm="pre", feed_forward=False), sequence()

    torch.testing.assert_close(layer(x), x + layer.attention(layer.attention_norm(x)))
    assert {name.split(".")[0] for name, _ in layer.named_parameters()} == {"attention", "attention_norm"}


def test_cross_attention_takes_the_context_as_it_is():
    layer, x, context = block(norm="pre", feed_forward=False, kdim=10), sequence(), sequence(10)

    torch.testing.assert_close(layer(x, context), x + layer.attention(layer.attention_norm(x), context))


def test_masks_reach_the_attention():
    layer, x = block(), sequence()
    keep, bias = torch.ones(5, 5, dtype=torch.bool).tril(), torch.randn(5, 5, dtype=torch.float64)

    masked = layer(x, attn_mask=keep)

    torch.testing.assert_close(masked[:, :1], layer(x[:, :1]))
    torch.testing.assert_close(
        layer(x, attn_bias=bias.masked_fill(~keep, -torch.inf) * 1), layer(x, attn_mask=keep, attn_bias=bias)
    )


def test_dropout_acts_on_both_sublayers_in_training_only():
    layer, x = block(dropout_p=0.99), sequence()
    quiet = block(dropout_p=0.0)

    torch.testing.assert_close(layer.eval()(x), quiet(x))
    dropped = layer.train()(x)
    expected = quiet.feed_forward_norm(quiet.attention_norm(x))  # with all sublayers gone
    assert (dropped - expected).abs().median() < 1e-9


def test_unknown_norm_is_refused():
    with pytest.raises(ArgumentError, match='norm must be "pre" or "post", got \'sandwich\''):
        block(norm="sandwich")
