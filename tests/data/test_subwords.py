import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_tokenizer, train_subwords, train_wordpiece

TEXTS = ["Ein Hund läuft über die Straße.", "Zwei Hunde laufen.", "A dog runs across the street.", "Two dogs run."] * 3
ODD = ["", " ", " two  spaces ", "a\tb\u2028c \n", "日本語 🙂 ﬁ", "</s> is no end, <pad> no padding", "NO CASE no case"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_subwords(TEXTS, vocab_size=330)


@pytest.mark.parametrize("text", [*TEXTS[:4], *ODD], ids=repr)
def test_every_text_comes_back_as_it_was(tokenizer, text):
    (ids,) = tokenizer.encode([text], max_len=200).ids

    assert tokenizer.decode(ids) == text
    assert ids[-1] == tokenizer.eos_id
    assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id} & set(ids[:-1])


def test_a_read_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    read = load_tokenizer(tmp_path)

    assert read.encode([*TEXTS, *ODD], 99) == tokenizer.encode([*TEXTS, *ODD], 99)
    assert [read.decode(ids) for ids in read.encode(ODD, 99).ids] == ODD
    assert (read.pad_id, read.bos_id, read.eos_id) == (0, 1, 2)


def test_the_first_word_is_the_word_inside_a_text(tokenizer):
    first, second = tokenizer.encode(["dog", "dog dog"], 20).ids

    assert second == [*first[:-1], *first]


def test_learning_again_gives_the_same(tokenizer, tmp_path):
    again = train_subwords(TEXTS, vocab_size=330)

    assert again.save(tmp_path / "a").read_bytes() == tokenizer.save(tmp_path / "b").read_bytes()


def test_frequent_words_are_one_token(tokenizer):
    learnt = train_subwords(["Hund und Hund"] * 9, vocab_size=300)

    assert [len(ids) for ids in learnt.encode(["Hund", "und", "xyz"], 20).ids] == [2, 2, 5]


def test_a_cut_text_still_ends(tokenizer):
    (ids,) = tokenizer.encode([TEXTS[0] * 3], max_len=10).ids

    assert (len(ids), ids[-1]) == (10, tokenizer.eos_id)


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match=r"vocab_size must be at least 259, .*, got 258"):
        train_subwords(TEXTS, vocab_size=258)
    with pytest.raises(DataError, match="got none but empty ones"):
        train_subwords(["", " "], vocab_size=300)


def test_other_tokenizers_end_with_their_own():
    tokenizer = train_wordpiece(["a cat", "a cat sat"], vocab_size=40)

    assert tokenizer.encode(["a cat"], 9).ids[0][0] == tokenizer.bos_id
    assert tokenizer.encode(["a cat"], 9).ids[0][-1] == tokenizer.eos_id
