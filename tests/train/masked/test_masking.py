"""What is hidden: the shares of the paper, never a special token, anew each time."""

import pytest
import torch

from regard import RegardError
from regard.train.masked.masking import Masking

PAD, UNK, CLS, SEP, MASK = range(5)
VOCAB = 50


def masking(share: float = 0.15) -> Masking:
    return Masking(share=share, mask_id=MASK, special_ids=(PAD, UNK, CLS, SEP, MASK), vocab_size=VOCAB)


def texts(rows: int = 2000, length: int = 64) -> torch.Tensor:
    body = torch.randint(5, VOCAB, (rows, length - 2), generator=torch.Generator().manual_seed(0))
    edge = torch.ones(rows, 1, dtype=torch.int64)
    return torch.cat([CLS * edge, body, SEP * edge], 1)


def test_shares_are_those_of_the_paper() -> None:
    tokens = texts()
    read, guessed = masking()(tokens, torch.Generator().manual_seed(1))
    ordinary = tokens >= 5
    assert float(guessed[ordinary].float().mean()) == pytest.approx(0.15, abs=0.005)
    hidden, same = (read == MASK) & guessed, (read == tokens) & guessed
    count = int(guessed.sum())
    assert int(hidden.sum()) / count == pytest.approx(0.8, abs=0.01)
    # One in 45 of the other tokens is the token itself.
    assert int(same.sum()) / count == pytest.approx(0.1 + 0.1 / (VOCAB - 5), abs=0.01)
    assert torch.equal(read[~guessed], tokens[~guessed])
    assert int(read[guessed & (read != MASK)].min()) >= 5


def test_special_tokens_are_never_guessed() -> None:
    tokens = texts(50)
    _, guessed = masking(0.9)(tokens)
    assert not bool(guessed[tokens < 5].any())


def test_each_reading_hides_other_tokens_and_a_seed_the_same() -> None:
    tokens, mask = texts(20), masking()
    first, second = mask(tokens)[1], mask(tokens)[1]
    assert not torch.equal(first, second)
    again = [mask(tokens, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(again[0][0], again[1][0])


def test_a_short_row_has_a_token_to_guess() -> None:
    _, guessed = masking(0.01)(texts(200, 4))
    assert bool(guessed.any(1).all())


def test_a_vocabulary_of_special_tokens_is_refused() -> None:
    with pytest.raises(RegardError, match="tokens that are not special, got 2 special ones"):
        Masking(share=0.1, mask_id=1, special_ids=(0, 1), vocab_size=2)
