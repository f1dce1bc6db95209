import pytest
import torch

from regard._errors import ArgumentError, DtypeError, NumericError
from regard.models import Sampling, Session, generate

PROMPTS = torch.tensor([[0, 1], [1, 2], [2, 3]])


def likeliest(logits, last, count, stop=()):
    found = []
    while len(found) < count and (not found or found[-1] not in stop):
        found.append(int(logits[found[-1] if found else last].argmax()))
    return found


def test_each_token_is_the_likeliest_after_those_before(chain):
    session = chain(vocab=40)

    generated = generate(session, PROMPTS, max_new_tokens=6)

    assert generated.tokens.tolist() == [likeliest(session.logits, int(row[-1]), 6) for row in PROMPTS]
    assert generated.lengths.tolist() == [6, 6, 6]
    assert not generated.stopped.any()


def test_the_model_is_fed_the_prompt_once_and_then_each_new_token(chain):
    session = chain(vocab=40)

    generated = generate(session, PROMPTS, max_new_tokens=4)

    assert session.fed.tolist() == torch.cat((PROMPTS, generated.tokens[:, :-1]), 1).tolist()


def test_a_sequence_ends_at_a_stop_token_and_the_others_go_on(chain):
    session = chain(vocab=40, seed=3)
    free = [likeliest(session.logits, int(row[-1]), 8) for row in PROMPTS]
    stop = {free[0][2], free[1][5]}

    generated = generate(session, PROMPTS, max_new_tokens=8, stop=stop, pad_id=39)

    expected = [likeliest(session.logits, int(row[-1]), 8, stop) for row in PROMPTS]
    assert generated.rows() == expected
    assert generated.lengths.tolist() == [len(row) for row in expected]
    assert generated.stopped.tolist() == [row[-1] in stop for row in expected]
    assert len(set(generated.lengths.tolist())) > 1
    assert generated.tokens[0, generated.lengths[0] :].eq(39).all()


def test_generation_ends_when_all_have_stopped(chain):
    session = chain(vocab=5)

    generated = generate(session, PROMPTS, max_new_tokens=50, stop=range(5))

    assert generated.tokens.shape == (3, 1)
    assert generated.stopped.all()


def test_the_same_seed_draws_the_same_tokens_and_another_one_others(chain):
    def drawn(seed):
        return generate(chain(40), PROMPTS, max_new_tokens=20, sampling=Sampling(seed=seed)).tokens

    torch.manual_seed(7)
    first = drawn(1)
    torch.manual_seed(8)  # torch's own generator is left out of it
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))


def test_drawing_does_not_disturb_torchs_generator(chain):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    generate(chain(), PROMPTS, max_new_tokens=5, sampling=Sampling())

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_refused_with_their_place(value, chain):
    session = chain(vocab=40)
    second = likeliest(session.logits, 2, 2)[0]
    session.logits[second, 5] = value

    with pytest.raises(NumericError, match=r"in row 1 at new token 1; look for the cause"):
        generate(session, PROMPTS, max_new_tokens=4)


def test_forbidden_tokens_are_allowed_unless_all_are(chain):
    session = chain(vocab=40)
    session.logits[:, :30] = -torch.inf
    assert generate(session, PROMPTS, max_new_tokens=4, sampling=Sampling()).tokens.min() >= 30

    session.logits[2] = -torch.inf
    with pytest.raises(NumericError, match="got -inf in row 1 at new token 0"):
        generate(session, PROMPTS, max_new_tokens=4)


def test_more_than_the_context_holds_is_refused_before_anything_runs(chain):
    session = chain(max_len=9)

    with pytest.raises(ArgumentError, match=r"room for 9 tokens, got 2 and 9 to come; .* at most 8 new tokens"):
        generate(session, PROMPTS, max_new_tokens=9)

    assert session.fed is None
    assert generate(session, PROMPTS, max_new_tokens=8).tokens.shape == (3, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"stop": [-1]}, "stop must hold token ids"),
        (
            {"attention_mask": torch.tensor([[1, 1], [1, 0], [0, 1]])},
            "padded on the left, got padding at the end of row 1",
        ),
        ({"attention_mask": torch.ones(3, 3)}, "shape of input_ids"),
    ],
)
def test_what_cannot_be_is_refused(change, message, chain):
    with pytest.raises(ArgumentError, match=message):
        generate(chain(), PROMPTS, **{"max_new_tokens": 2, **change})


def test_a_mask_of_floats_is_refused(chain):
    with pytest.raises(DtypeError, match="attention_mask must be boolean or integer"):
        generate(chain(), PROMPTS, max_new_tokens=2, attention_mask=torch.ones(3, 2))


def test_the_known_model_is_a_session(chain):
    assert isinstance(chain(), Session)
