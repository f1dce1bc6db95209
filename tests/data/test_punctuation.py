"""What was written comes back from its lower-cased words and their tags, and windows give no ends away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard._errors import ArgumentError, DataError
from regard.data import load_punctuated, restored, spoken_words
from regard.data.punctuation import case_and_mark

TEXT = "In the beginning, God said: Who is here? The U.N staff, I think! It's 1,234 of them; no more."


@pytest.fixture
def text(tmp_path):
    def make(content):
        path = tmp_path / "book.txt"
        path.write_text(content, encoding="utf-8")
        return path

    return make


def test_a_plain_text_comes_back_as_it_was(text):
    found = load_punctuated(text(TEXT), window=99)

    assert restored(found.words[0], found.tags[0]) == TEXT
    assert found.left_out == {}
    assert found.words[0] == spoken_words(TEXT)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rome", "it's", "x-ray", "été", "42", "o"]),
            st.sampled_from(["lower", "Capital", "UPPER"]),
            st.sampled_from(["", *",.?!:;"]),
        ),
        min_size=1,
    )
)
def test_what_is_restored_is_read_as_it_was_meant(pairs):
    """Case and mark can be read off the text that they made, where the word has case to show them."""
    words, tags = [word for word, _, _ in pairs], [case + mark for _, case, mark in pairs]
    text = restored(words, tags)

    assert spoken_words(text) == words
    for token, (word, case, mark) in zip(text.split(), pairs, strict=True):
        core = token.rstrip(",.?!:;")
        wanted = "lower" if word == "42" else "Capital" if case == "UPPER" and word == "o" else case
        assert case_and_mark(core, token[len(core) :]) == wanted + mark


@pytest.mark.parametrize(
    ("word", "tag"),
    [("Rome", "Capital"), ("I", "Capital"), ("USA", "UPPER"), ("U.S", "UPPER"), ("iPhone", "lower"), ("7", "lower")],
)
def test_case_of_a_word(word, tag):
    assert case_and_mark(word) == tag


def test_texts_cut_into_tokens_are_read_alike(text):
    tokens = "The lobster 's shell ( red ) was 0 @.@ 7 – 2 @.@ 2 kg , they do n't say \" more \" ."
    found = load_punctuated(text(tokens), window=99)

    assert restored(found.words[0], found.tags[0]) == "The lobster's shell red was 0.7 2.2 kg, they don't say more."
    assert found.left_out == {"other marks": 5}


def test_words_between_dashes_are_words_of_their_own():
    assert spoken_words("night\u2014and--day") == ["night", "and", "day"]


def test_mixed_case_is_lost_and_counted(text):
    assert load_punctuated(text("The iPhone of McCoy"), window=9).left_out == {"words whose mixed case is lost": 2}


def test_windows_begin_with_sentences_and_end_anywhere(text):
    sentence = "One two three four five. "
    found = load_punctuated(text(sentence * 6), window=7)

    assert {words[0] for words in found.words} == {"one"}
    assert [len(words) for words in found.words] == [7, 7, 7]
    assert not any(tags[-1].endswith(".") for tags in found.tags)
    assert found.left_out == {"words between windows": 9}
    assert found.num_words + 9 == 30


def test_a_paragraph_begins_a_sentence(text):
    found = load_punctuated(text("a heading\n\nThe text of\n\nmore"), window=2)

    assert [words[0] for words in found.words] == ["a", "the", "more"]


def test_a_text_without_marks_is_read_whole(text):
    found = load_punctuated(text("word " * 20), window=6)

    assert [len(words) for words in found.words] == [6, 6, 6]
    assert found.left_out == {"words between windows": 2}


def test_a_text_without_words_is_refused(text):
    with pytest.raises(DataError, match="must hold words, got none"):
        load_punctuated(text("... !"), window=5)
    with pytest.raises(ArgumentError, match="at least 2 words, got 1"):
        load_punctuated(text("a b"), window=1)


@pytest.mark.parametrize("tag", ["B-PER", "lower.,", "lower-", ""])
def test_another_tag_cannot_be_restored(tag):
    with pytest.raises(ArgumentError, match="A tag must be lower, Capital or UPPER"):
        restored(["a"], [tag])
