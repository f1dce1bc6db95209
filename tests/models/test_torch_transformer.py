"""Ours against ``nn.Transformer`` with the same weights."""

import copy

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, UnsupportedError
from regard.functional.positions import sinusoidal
from regard.models import transformer_from_torch

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")

SOURCE, TARGET = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]]), torch.tensor([[1, 11, 12, 13], [1, 14, 0, 0]])
VARIANTS = {
    "post": {},
    "pre": {"norm_first": True},
    "gelu": {"activation": "gelu"},
    "sequence first": {"batch_first": False},
    "large eps": {"layer_norm_eps": 0.1},
}


def peer(seed=0, **changes):
    """Return an ``nn.Transformer`` and two embeddings, their weights far from where they start."""
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 3, "dim_feedforward": 24}
    module = nn.Transformer(**{**sizes, "dropout": 0.0, "batch_first": True, **changes})
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval(), nn.Embedding(50, 16), nn.Embedding(60, 16)


def theirs(module, source, target):
    def embedded(embedding, ids):
        return 4 * embedding(ids) + sinusoidal(ids.shape[1], 16).to(embedding.weight)

    causal = nn.Transformer.generate_square_subsequent_mask(TARGET.shape[1]).isinf()
    sides = embedded(source, SOURCE), embedded(target, TARGET)
    sides = sides if module.batch_first else tuple(side.transpose(0, 1) for side in sides)
    padding = SOURCE == 0
    hidden = module(*sides, tgt_mask=causal, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    return hidden if module.batch_first else hidden.transpose(0, 1)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_logits_are_equal(changes):
    module, source, target = peer(**changes)
    output = nn.Linear(16, 60, bias=False)
    ours = transformer_from_torch(module, source, target, output)

    found, expected = ours(SOURCE, TARGET, SOURCE != 0), output(theirs(module, source, target))

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_logits_without_a_final_norm_are_equal():
    module, source, target = peer()
    module.encoder.norm = module.decoder.norm = None
    ours = transformer_from_torch(module, source, target)

    expected = theirs(module, source, target) @ target.weight.T
    torch.testing.assert_close(ours(SOURCE, TARGET, SOURCE != 0), expected, rtol=1e-5, atol=1e-5)
    assert ours.config.tied_embeddings == "target"


def test_one_embedding_for_both_sides_is_tied_three_ways():
    module, source, _ = peer()
    ours = transformer_from_torch(module, source)

    expected = theirs(module, source, source) @ source.weight.T
    torch.testing.assert_close(ours(SOURCE, TARGET, SOURCE != 0), expected, rtol=1e-5, atol=1e-5)
    assert ours.config.tied_embeddings == "all"


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_are_equal(norm_first):
    module, source, target = peer(norm_first=norm_first)
    module, source, target = module.double(), source.double(), target.double()
    ours = transformer_from_torch(module, source, target)
    weight = torch.randn(2, 4, 60, dtype=torch.float64) * (TARGET != 0)[:, :, None]

    (ours(SOURCE, TARGET, SOURCE != 0) * weight).sum().backward()
    (theirs(module, source, target) @ target.weight.T * weight).sum().backward()

    pairs = [
        (ours.source_embeddings.tokens, source),
        (ours.target_embeddings.tokens, target),
        (ours.encoder.layer[0].feed_forward.hidden, module.encoder.layers[0].linear1),
        (ours.decoder.layer[1].cross_attention.output, module.decoder.layers[1].multihead_attn.out_proj),
        (ours.decoder.layer[2].feed_forward_norm, module.decoder.layers[2].norm3),
        (ours.decoder.norm, module.decoder.norm),
    ]
    for mine, other in pairs:
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-9)


def test_rates_and_mode_are_taken_over():
    module, source, _ = peer(dropout=0.25)
    ours = transformer_from_torch(module.train(), source, bos_id=3, max_len=7)

    assert ours.training
    assert (ours.config.dropout_p, ours.config.attention_dropout_p) == (0.25, 0.25)
    assert (ours.config.bos_id, ours.config.max_len) == (3, 7)


def test_theirs_stays_as_it_is():
    module, source, _ = peer()
    before = copy.deepcopy(module.state_dict())
    ours = transformer_from_torch(module, source)

    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1.0)

    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def different_layers():
    module, source, _ = peer()
    module.encoder.layers[1].norm1.eps = 0.5
    return module, source


def norm_on_one_side():
    module, source, _ = peer()
    module.encoder.norm = None
    return module, source


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: (nn.Linear(2, 2), nn.Embedding(5, 2)), ArgumentError, "needs an nn.Transformer, got Linear"),
        (lambda: (*peer(), nn.Linear(16, 60)), UnsupportedError, "must have no bias"),
        (lambda: peer(bias=False)[:2], UnsupportedError, "made with bias=False"),
        (lambda: peer(activation=torch.tanh)[:2], UnsupportedError, "must be ReLU or GELU"),
        (different_layers, UnsupportedError, "layers that differ"),
        (norm_on_one_side, UnsupportedError, "both end in a norm or both not"),
    ],
)
def test_what_has_no_counterpart_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        transformer_from_torch(*make())
