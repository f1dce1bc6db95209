"""A text and what stood before it in one sequence, and which characters its tokens stand for."""

import pytest

from regard._errors import ArgumentError
from regard.data import encode_with_contexts, train_subwords, word_tokenizer

TEXTS = ["“Ein Hund” läuft 猫 heim", "ä", "", " a  b", "ein Hund bellt"]


@pytest.fixture(scope="module")
def subwords():
    return train_subwords(["ein Hund läuft “heim”", "ein Hund bellt"], vocab_size=280)


def encoded(tokenizer, texts, contexts, max_len=20, context_len=9):
    return encode_with_contexts(tokenizer, texts, contexts, max_len=max_len, context_len=context_len)


def test_the_text_stands_first_and_each_text_ends(subwords):
    own, before = subwords.encode(["ein Hund", "bellt"], 20).ids

    assert encoded(subwords, ["ein Hund"], [["bellt"]]).ids == [own + before]


def test_without_a_context_nothing_changes(subwords):
    assert encoded(subwords, TEXTS, [()] * 5) == encoded(subwords, TEXTS, None) == subwords.encode(TEXTS, 20)


def test_what_is_farthest_is_left_out_and_the_text_itself_never(subwords):
    whole = encoded(subwords, ["ein Hund bellt"], [["ein Hund", "läuft"]], context_len=99).ids[0]
    own = subwords.encode(["ein Hund bellt"], 20).ids[0]

    for length in range(1, len(whole) - len(own) + 1):
        found = encoded(subwords, ["ein Hund bellt"], [["ein Hund", "läuft"]], context_len=length)
        assert found.ids == [whole[: len(own) + length]]
        assert found.lengths == [len(own)]


def test_contexts_must_be_as_many_as_texts(subwords):
    with pytest.raises(ArgumentError, match="one for each of 1 texts, got 2"):
        encoded(subwords, ["a"], [[], []])


@pytest.mark.parametrize("text", TEXTS)
def test_spans_of_tokens_cover_the_words_in_order(subwords, text):
    ids = subwords.encode([text], 99).ids[0]

    for spans in (subwords.read_spans(text), subwords.written_spans(ids)):
        assert len(spans) == len(ids)
        covered = {place for start, stop in spans for place in range(start, stop)}
        assert {place for place, character in enumerate(text) if not character.isspace()} <= covered
        assert spans == sorted(spans)
        assert spans[-1][0] == spans[-1][1]


def test_a_character_of_several_tokens_belongs_to_each(subwords):
    ids = subwords.encode(["a 猫"], 99).ids[0]
    text = subwords.decode(ids)

    assert [text[start:stop] for start, stop in subwords.written_spans(ids)].count("猫") == 3


def test_words_stand_for_themselves():
    tokenizer = word_tokenizer(["jump twice"])
    ids = tokenizer.encode(["jump so twice"], 9).ids[0]
    written = tokenizer.decode(ids)

    assert [written[start:stop] for start, stop in tokenizer.written_spans(ids)] == ["jump", "<unk>", "twice", ""]
    assert tokenizer.read_spans("jump  so twice") == [(0, 4), (6, 8), (9, 14), (14, 14)]
