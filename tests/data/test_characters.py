"""A vocabulary of characters gives back every text to the letter."""

import pytest

from regard import RegardError
from regard.data import character_tokenizer

TEXT = "First Citizen:\nBefore we proceed\tany further… Ä\r\n"


def test_each_character_is_a_token_and_comes_back() -> None:
    tokenizer = character_tokenizer(TEXT)
    encoded = tokenizer.encode([TEXT], max_len=1000)
    assert encoded.lengths == [len(TEXT)]
    assert tokenizer.decode(encoded.ids[0]) == TEXT
    assert tokenizer.vocab_size == len(set(TEXT)) + 2
    assert tokenizer.pad_id == 0


def test_an_unknown_character_is_the_unknown_token() -> None:
    assert character_tokenizer("ab").encode(["axb"], max_len=9).ids == [[2, 1, 3]]


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(RegardError, match="a text to learn from, got an empty one"):
        character_tokenizer("")
