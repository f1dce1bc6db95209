"""A plain encoder–decoder is recognised by the names that its forward takes, and its faults are found."""

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.conformance import check
from regard.models import Transformer, TransformerConfig
from regard.records import CheckVerdict

SIZES = {
    "vocab_size": 50,
    "embed_dim": 32,
    "num_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "feed_forward_dim": 64,
    "max_len": 64,
}


def model(**changes):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(**{**SIZES, **changes}))


@pytest.mark.parametrize("changes", [{}, {"norm": "pre", "positions": "learned", "tied_embeddings": "none"}], ids=str)
def test_our_transformer_obeys_every_law(changes):
    report = check(model(**changes))

    assert report.failed == [], str(report)
    assert CheckVerdict.NOT_TESTED not in report.verdicts.values()
    assert {name for name, verdict in report.verdicts.items() if verdict is CheckVerdict.NOT_APPLICABLE} == {
        "window",
        "softcap",
        "alibi",
        "packed",
        "formula",
    }


def test_a_decoder_that_sees_later_tokens_is_found():
    broken = model()
    broken.decoder.layer[1].self_attention.causal = False

    assert "causality" in check(broken, fast=True, rules=["causality"]).failed


def test_a_decoder_that_sees_the_padding_of_the_source_is_found():
    broken = model()
    layer = broken.decoder.layer[0].cross_attention
    forward = layer.forward
    layer.forward = lambda x, key_padding_mask=None, **options: forward(x, **options)

    assert "padding" in check(broken, fast=True, rules=["padding"]).failed


def test_a_cache_that_forgets_is_found():
    broken = model()
    layer = broken.decoder.layer[1].self_attention
    forward = layer.forward
    layer.forward = lambda x, cache=None, **options: forward(x, **options)

    assert "cache" in check(broken, fast=True, rules=["cache"]).failed


class Whole(nn.Module):
    """An encoder–decoder of which only the whole can be called, without masks or a cache."""

    def __init__(self):
        super().__init__()
        self.inner = model()

    def forward(self, input_ids, decoder_input_ids):
        return self.inner(input_ids, decoder_input_ids)


def test_what_cannot_be_called_apart_is_checked_as_a_whole():
    report = check(Whole(), fast=True)

    assert report.failed == [], str(report)
    assert report["causality"].verdict is CheckVerdict.PASS
    for rule in ("padding", "cache"):
        assert report[rule].verdict is CheckVerdict.NOT_APPLICABLE


class Silent(nn.Module):
    def forward(self, input_ids, decoder_input_ids):
        return decoder_input_ids


def test_ids_without_an_embedding_are_refused():
    with pytest.raises(ArgumentError, match="it takes token ids and has no embedding"):
        check(Silent())
