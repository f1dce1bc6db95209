"""What the decoder writes with its caches is what it writes without."""

import pytest
import torch

from regard._errors import ArgumentError
from regard.models import Session, Transformer, TransformerConfig, beam_search, generate
from regard.modules import StaticCache

SOURCE = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0], [3, 2, 0, 0, 0]])
MASK = SOURCE != 0
BEGIN = torch.ones(3, 1, dtype=torch.int64)
SIZES = {
    "vocab_size": 30,
    "embed_dim": 16,
    "num_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "feed_forward_dim": 24,
    "max_len": 40,
}


def small(**changes):
    torch.manual_seed(2)
    model = Transformer(TransformerConfig(**{**SIZES, **changes})).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def argmax_without_cache(model, steps):
    written = BEGIN
    for _ in range(steps):
        with torch.no_grad():
            token = model(SOURCE, written, MASK)[:, -1].argmax(-1, keepdim=True)
        written = torch.cat((written, token), 1)
    return written[:, 1:]


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_every_step_with_a_cache_equals_the_step_without(norm, positions):
    model = small(norm=norm, positions=positions)
    target = torch.randint(3, 30, (3, 36))
    session = model.session(SOURCE, MASK)

    with torch.no_grad():
        expected = model(SOURCE, target, MASK)
    for step in range(36):
        torch.testing.assert_close(session.feed(target[:, step : step + 1]), expected[:, step], rtol=1e-4, atol=1e-4)
    assert session.length == 36


def test_a_chunk_at_a_time_is_as_good_and_any_cache_is():
    model, target = small(), torch.randint(3, 30, (3, 12))
    cache = model.new_cache(lambda: StaticCache(12))

    with torch.no_grad():
        expected = model(SOURCE, target, MASK)
        chunks = [model(SOURCE, target[:, a:b], MASK, cache=cache) for a, b in ((0, 5), (5, 6), (6, 12))]

    torch.testing.assert_close(torch.cat(chunks, 1), expected, rtol=1e-4, atol=1e-4)
    assert cache.num_bytes == sum(own.num_bytes + cross.num_bytes for own, cross in cache.layers()) > 0


def test_greedy_writing_is_the_likeliest_token_each_time():
    model = small()

    found = generate(model.session(SOURCE, MASK), BEGIN, max_new_tokens=10)

    assert torch.equal(found.tokens, argmax_without_cache(model, 10))
    assert len(set(map(tuple, found.rows()))) > 1, "the sources must make a difference"


def test_a_source_is_written_alike_alone_and_in_a_batch():
    model = small()
    together = beam_search(model.session(SOURCE, MASK), BEGIN, num_beams=3, max_new_tokens=12, stop=[2]).rows()

    for row, source in enumerate(SOURCE):
        session = model.session(source[source != 0][None])
        assert beam_search(session, BEGIN[:1], num_beams=3, max_new_tokens=12, stop=[2]).rows() == [together[row]]


def test_scores_of_beams_are_those_of_the_model():
    model = small()
    beams = beam_search(model.session(SOURCE, MASK), BEGIN, num_beams=4, max_new_tokens=8, alpha=0.0)

    for row in range(3):
        for tokens, score in zip(beams.tokens[row], beams.scores[row], strict=True):
            fed = torch.cat((BEGIN[:1], tokens[None, :-1]), 1)
            with torch.no_grad():
                logits = model(SOURCE[row : row + 1], fed, MASK[row : row + 1])
            chances = logits.log_softmax(-1)[0].gather(1, tokens[:, None])
            assert float(score) == pytest.approx(float(chances.sum()), abs=1e-3)


def test_sequences_may_be_chosen_before_the_first_token_too():
    model, rows = small(), torch.tensor([2, 0, 0])
    first, second = model.session(SOURCE, MASK), model.session(SOURCE[rows], MASK[rows])

    first.select(rows)

    torch.testing.assert_close(first.feed(BEGIN), second.feed(BEGIN))
    assert isinstance(first, Session)


def test_right_padded_beginnings_stay_hidden_when_they_go_on():
    """Without a cache padding on the right needs no mask; with one the next token would see it."""
    model = small()
    begun, mask = torch.tensor([[1, 11, 0], [1, 12, 13]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    cache = model.new_cache()

    with torch.no_grad():
        model(SOURCE[:2], begun, MASK[:2], mask, cache=cache)
        found = model(SOURCE[:2], torch.tensor([[14], [14]]), cache=cache)
        expected = model(SOURCE[:1], torch.tensor([[1, 11, 14]]))

    torch.testing.assert_close(found[:1, 0], expected[:, 2], rtol=1e-4, atol=1e-4)


def test_logits_are_made_where_they_are_asked_for():
    model, target = small(), torch.randint(3, 30, (3, 4))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()

    found = model(SOURCE, target, MASK, mask, logits_at=mask)

    assert found.shape == (7, 30)
    torch.testing.assert_close(found, model(SOURCE, target, MASK)[mask])


def test_wrong_use_is_named():
    model = small()
    session, cache = model.session(SOURCE, MASK), model.new_cache()
    session.feed(torch.full((3, 40), 5))
    with torch.no_grad():
        context = model.encode(SOURCE, MASK)
        model.decode(BEGIN, context, attention_mask=MASK, cache=cache)

    with pytest.raises(ArgumentError, match=r"evaluation mode, got one in training; call model\.eval\(\)"):
        small().train().session(SOURCE)
    with pytest.raises(ArgumentError, match=r"got neither; call encode\(\)"):
        model.decode(BEGIN)
    with pytest.raises(ArgumentError, match="at most 40 tokens a row, got 1 behind 40 cached ones"):
        session.feed(BEGIN)
    with pytest.raises(ArgumentError, match="room for 40 tokens"):
        generate(model.session(SOURCE, MASK), BEGIN, max_new_tokens=41)
    with torch.no_grad(), pytest.raises(ArgumentError, match="got one of them again"):
        model.decode(BEGIN, context, attention_mask=MASK, cache=cache)
