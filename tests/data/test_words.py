import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_tokenizer, word_tokenizer

TEXTS = ["jump twice and run", "I_JUMP I_JUMP I_RUN", "run", "dog ( x _ 1 )"]


def test_words_come_back_with_single_spaces(tmp_path):
    word_tokenizer(TEXTS).save(tmp_path)
    tokenizer = load_tokenizer(tmp_path)

    (ids,) = tokenizer.encode(["dog  ( x _ 1 )\trun"], 99).ids
    assert tokenizer.decode(ids) == "dog ( x _ 1 ) run"
    assert (len(ids), ids[-1]) == (8, tokenizer.eos_id)


def test_frequent_words_come_first_and_equal_ones_by_name():
    tokenizer = word_tokenizer(["b c a c", "d"])

    assert tokenizer.encode(["c a b d"], 9).ids == [[4, 5, 6, 7, 2]]
    assert tokenizer.vocab_size == 8


def test_an_unknown_word_is_seen_as_such_also_where_it_looks_special():
    tokenizer = word_tokenizer(TEXTS)
    (ids,) = tokenizer.encode(["run </s> fly <pad> run"], 9).ids

    assert tokenizer.decode(ids) == "run <unk> <unk> <unk> run"
    assert ids.count(tokenizer.eos_id) == 1


def test_rare_words_may_be_left_out():
    assert word_tokenizer(["a a b"], min_frequency=2).vocab_size == 5


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="got none"):
        word_tokenizer([" "])
    with pytest.raises(DataError, match="must not look like a special token, got </s>"):
        word_tokenizer(["a </s>"])
    with pytest.raises(ArgumentError, match="min_frequency must be at least 1, got 0"):
        word_tokenizer(["a"], min_frequency=0)
