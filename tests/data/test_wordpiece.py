import json
import random
import subprocess
import sys

import pytest

from regard._errors import ArgumentError, DataError
from regard.data import train_wordpiece

pytest.importorskip("tokenizers", reason="needs the extra regard[train]")

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "a caf\u00e9 and a mat"] * 5


def vocabulary_of(tokenizer):
    return json.loads(tokenizer._backend.to_str())["model"]["vocab"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, vocab_size=120)


def test_sequences_come_out_as_bert_has_them(tokenizer):
    vocabulary = vocabulary_of(tokenizer)

    (ids,) = tokenizer.encode(["The CAT"], max_len=8).ids

    assert ids == [vocabulary["[CLS]"], vocabulary["the"], vocabulary["cat"], vocabulary["[SEP]"]]
    assert tokenizer.pad_id == vocabulary["[PAD]"] == 0
    assert tokenizer.decode(ids) == "the cat"
    assert tokenizer.vocab_size == len(vocabulary) <= 120


def test_case_is_kept_when_said():
    tokenizer = train_wordpiece(["Cat cat"] * 3, vocab_size=60, lowercase=False)

    one, other = tokenizer.encode(["Cat", "cat"], max_len=8).ids

    assert one != other


def test_training_gives_the_same_vocabulary_in_another_process():
    code = (
        f"from regard.data import train_wordpiece; print(train_wordpiece({TEXTS!r}, vocab_size=60)._backend.to_str())"
    )

    printed = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "12"
    }

    assert len(printed) == 1


def test_vocabulary_without_room_is_refused():
    with pytest.raises(ArgumentError, match="must be at least 7, the special tokens and a letter, got 6"):
        train_wordpiece(TEXTS, vocab_size=6)


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(DataError, match="texts with words to learn from"):
        train_wordpiece(["", " "], vocab_size=50)


def test_words_that_repeat_become_one_token(tokenizer):
    assert {"the", "cat", "sat"} <= vocabulary_of(tokenizer).keys()
    assert tokenizer.encode(["the cat"], max_len=16).lengths == [4]


def test_special_tokens_are_the_first_and_the_only_added_ones(tokenizer):
    added = json.loads(tokenizer._backend.to_str())["added_tokens"]

    assert [(token["id"], token["content"], token["special"]) for token in added] == [
        (number, token, True) for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    ]


@pytest.mark.parametrize("vocab_size", [7, 40, 101])
def test_script_of_many_letters_keeps_to_the_vocabulary_size(vocab_size):
    generator = random.Random(0)
    letters = [chr(0x0400 + number) for number in range(200)]
    texts = ["".join(generator.choices(letters, k=8)) for _ in range(300)]

    tokenizer = train_wordpiece(texts, vocab_size=vocab_size)

    assert tokenizer.vocab_size <= vocab_size
    assert sorted(vocabulary_of(tokenizer).values()) == list(range(tokenizer.vocab_size))


def test_unknown_letter_becomes_the_unknown_token(tokenizer):
    assert tokenizer.encode(["\u732b"], max_len=8).ids == [[2, 1, 3]]
