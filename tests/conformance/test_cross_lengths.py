"""Cross-attention: queries and keys of different numbers."""

from torch import nn

from regard.conformance import check


def test_other_lengths_pass(attend, faulty, small):
    for subject in (attend(), faulty(), nn.MultiheadAttention(16, 4), small("bart")):
        assert check(subject, rules=["cross_lengths"])["cross_lengths"].verdict == "pass"


def test_an_ignored_context_is_found(faulty):
    report = check(faulty("context ignored"))

    assert report.failed == ["cross_lengths"]
    assert "reaches 0 of 3 queries" in report["cross_lengths"].summary


def test_an_encoder_that_does_not_reach_the_decoder_is_found(small):
    model = small("bart")
    for layer in model.model.decoder.layers:
        nn.init.zeros_(layer.encoder_attn.out_proj.weight)

    report = check(model, rules=["cross_lengths"])

    assert report.failed == ["cross_lengths"]
    assert report["cross_lengths"].case.stream == "encoder"
