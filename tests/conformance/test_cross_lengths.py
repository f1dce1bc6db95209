"""Cross-attention: queries and keys of different numbers."""

from torch import nn

from regard.conformance import AttentionModule, check


def test_other_lengths_pass(attend, faulty, small):
    for subject in (attend(), faulty(), nn.MultiheadAttention(16, 4), small("bart")):
        assert check(subject, rules=["cross_lengths"])["cross_lengths"].verdict == "pass"


def test_an_ignored_context_may_be_meant_unless_a_person_says_otherwise(faulty):
    outcome = check(faulty("context ignored"), rules=["cross_lengths"])["cross_lengths"]

    assert outcome.verdict == "could not test"
    assert "does not look at it" in outcome.summary

    report = check(
        AttentionModule(
            module=faulty("context ignored"),
            call=lambda module, x, keep, causal: module(x),
            cross=lambda module, x, context: module(x, context),
            embed_dim=16,
            num_heads=4,
            padding=False,
        ),
        rules=["cross_lengths"],
    )

    assert report.failed == ["cross_lengths"]
    assert "reaches 0 of 3 queries" in report["cross_lengths"].summary


def test_a_second_argument_that_is_no_context_is_not_called_one(faulty):
    class Masked(faulty):
        def forward(self, x, attn_mask=None):
            return super().forward(x)

    assert check(Masked(), rules=["cross_lengths"])["cross_lengths"].verdict == "not applicable"


def test_an_encoder_that_does_not_reach_the_decoder_is_found(small):
    model = small("bart")
    for layer in model.model.decoder.layers:
        nn.init.zeros_(layer.encoder_attn.out_proj.weight)

    report = check(model, rules=["cross_lengths"])

    assert report.failed == ["cross_lengths"]
    assert report["cross_lengths"].case.stream == "encoder"
