import itertools

import pytest
import torch

from regard._errors import ArgumentError, NumericError
from regard.models import beam_search, length_penalty

PROMPTS = torch.tensor([[0], [3]])


def every_sequence(logits, last, length, stop, alpha):
    """Score all sequences that end with a stop token or are long enough, the best first."""
    log_probs, scored = torch.log_softmax(logits.double(), -1), {}
    for tokens in itertools.product(range(len(logits)), repeat=length):
        ends = [place for place, token in enumerate(tokens) if token in stop]
        sequence = tokens[: ends[0] + 1] if ends else tokens
        steps = zip((last, *sequence), sequence, strict=False)
        scored[sequence] = sum(float(log_probs[a, b]) for a, b in steps) / length_penalty(len(sequence), alpha)
    return sorted(scored.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 3.0])
@pytest.mark.parametrize("stop", [(), (4,), (1, 4)])
def test_with_beams_enough_the_best_of_all_sequences_are_found(stop, alpha, chain):
    """5 ** 4 sequences at most, and as many beams."""
    session = chain(vocab=5, seed=1)

    found = beam_search(session, PROMPTS, num_beams=625, max_new_tokens=4, alpha=alpha, stop=stop)

    for row, prompt in enumerate(PROMPTS[:, 0].tolist()):
        expected = every_sequence(session.logits, prompt, 4, stop, alpha)
        count = int((found.lengths[row] > 0).sum())
        sequences = [
            tuple(one[:length])
            for one, length in zip(found.tokens[row].tolist(), found.lengths[row].tolist(), strict=True)
        ]
        assert len(set(sequences[:count])) == count == len(expected)
        # Sequences of the same transitions in another order have the same score, so their order is left open.
        scores = dict(expected)
        assert found.scores[row, :count].tolist() == pytest.approx([score for _, score in expected], abs=1e-5)
        assert [scores[one] for one in sequences[:count]] == pytest.approx([score for _, score in expected], abs=1e-5)
        assert found.stopped[row, :count].tolist() == [one[-1] in stop for one in sequences[:count]]


def test_one_beam_is_greedy(chain):
    session = chain(vocab=30)

    found = beam_search(session, PROMPTS, num_beams=1, max_new_tokens=6, alpha=0.0)

    for row, token in enumerate(PROMPTS[:, 0].tolist()):
        for new in found.rows()[row]:
            token, expected = new, int(session.logits[token].argmax())
            assert new == expected


def test_more_beams_find_nothing_worse(chain):
    best = [
        beam_search(chain(vocab=30, seed=5), PROMPTS, num_beams=beams, max_new_tokens=8, alpha=0.0).scores[:, 0]
        for beams in (1, 4, 64)
    ]

    assert (best[1] >= best[0]).all()
    assert (best[2] >= best[1]).all()
    assert (best[2] > best[0] + 1e-3).any()


def test_a_larger_alpha_prefers_longer_sequences(chain):
    def total(alpha):
        session = chain(vocab=5, seed=1)
        session.logits[:, 4] += 1.0
        found = beam_search(session, PROMPTS, num_beams=50, max_new_tokens=6, alpha=alpha, stop=[4])
        return int(found.lengths[:, 0].sum())

    lengths = [total(alpha) for alpha in (0.0, 1.0, 5.0)]

    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_the_penalty_is_that_of_the_paper():
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(13, 1.0) == pytest.approx(3.0)
    assert length_penalty(13, 0.0) == 1.0


def test_the_search_ends_when_no_beam_can_win_any_more(chain):
    """With the stop token all but certain, two steps decide."""
    session = chain(vocab=5)
    session.logits[:, 4] = 50.0

    found = beam_search(session, PROMPTS, num_beams=2, max_new_tokens=900, alpha=0.0, stop=[4])

    assert found.lengths[:, 0].tolist() == [1, 1]
    assert session.length < 5


def test_fewer_sequences_than_beams_leave_the_rest_empty(chain):
    session = chain(vocab=2)

    found = beam_search(session, PROMPTS.clamp_max(1), num_beams=8, max_new_tokens=2, alpha=0.0, pad_id=0)

    assert found.lengths.tolist() == [[2] * 4 + [0] * 4] * 2
    assert found.scores[:, 4:].eq(-torch.inf).all()


@pytest.mark.parametrize("options", [{"num_beams": 0}, {"alpha": -1.0}, {"alpha": float("nan")}])
def test_what_cannot_be_is_refused(options, chain):
    with pytest.raises(ArgumentError, match="num_beams must be at least 1 and alpha at least 0"):
        beam_search(chain(), PROMPTS, **{"num_beams": 2, "max_new_tokens": 2, **options})


def test_logits_that_are_no_numbers_are_refused(chain):
    session = chain()
    session.logits[3, 0] = float("nan")

    with pytest.raises(NumericError, match="in row 1 at new token 0"):
        beam_search(session, PROMPTS, num_beams=2, max_new_tokens=2)


def test_a_prompt_that_is_done_takes_no_more_part_and_changes_nothing(chain):
    """Behind tokens 7 to 11 a stop is all but certain, the others wander on."""

    def made():
        session = chain(vocab=12, seed=3)
        session.logits[7:, 4] += 9.0
        session.logits[7:, 7:] += 5.0
        session.logits[:7, 4:] -= 9.0
        return session

    prompts = torch.tensor([[0], [7], [3], [9], [5]])
    session, sizes = made(), []
    feed = session.feed
    session.feed = lambda ids, mask=None: (sizes.append(len(ids)), feed(ids, mask))[1]

    together = beam_search(session, prompts, num_beams=3, max_new_tokens=12, alpha=0.6, stop=[4])

    assert 0 < min(sizes[1:]) < max(sizes) == 15
    for row, prompt in enumerate(prompts):
        alone = beam_search(made(), prompt[None], num_beams=3, max_new_tokens=12, alpha=0.6, stop=[4])
        assert together.rows()[row] == alone.rows()[0]
        assert together.lengths[row].tolist() == alone.lengths[0].tolist()
        assert together.stopped[row].tolist() == alone.stopped[0].tolist()
        torch.testing.assert_close(together.scores[row], alone.scores[0])


def test_one_beam_ends_with_the_first_stop_token_it_takes(chain):
    session = chain(vocab=30, seed=2)
    session.logits[:, 4] += 2.0

    found = beam_search(session, PROMPTS, num_beams=1, max_new_tokens=40, alpha=0.6, stop=[4])

    for row, token in enumerate(PROMPTS[:, 0].tolist()):
        greedy = []
        while len(greedy) < 40 and (not greedy or greedy[-1] != 4):
            token = int(session.logits[token].argmax())
            greedy.append(token)
        assert found.rows()[row] == greedy
