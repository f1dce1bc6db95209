"""Tokens of the three common schemes become the words that were written."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from regard._errors import ArgumentError
from regard.observe.words import Word, find_words, token_texts, words_of


def texts(tokens: Sequence[str], **given: object) -> list[str]:
    return [word.text for word in words_of(tokens, **given)]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["[CLS]", "un", "##believ", "##able", ",", "dogs", "[SEP]", "[PAD]"], "[CLS] unbelievable , dogs [SEP] [PAD]"),
        (["the", "#", "##", "a"], "the # ## a"),
        (["<s>", "The", "Ġbull", "dog", "Ġdidn", "'t", "Ġbite", ".", "</s>"], "<s> The bulldog didn't bite . </s>"),
        (["Ġwell", "-", "known", "Ġ(", "so", ")"], "well - known ( so )"),
        (["cafÃ", "©", "ĠðŁ", "Ĳ", "¶", "<|endoftext|>"], "café 🐶 <|endoftext|>"),
        (["a", "Ġ", "Ġ", "Ġb", "Ċ", "c"], "a b c"),
        (["▁The", "▁bull", "dog", "▁bite", "s", ".", "</s>"], "The bulldog bites . </s>"),
        (["▁", "(", "▁", "dog", "<extra_id_0>"], "( dog <extra_id_0>"),
        (["▁caf", "<0xC3>", "<0xA9>", "▁ol", "é"], "café olé"),
    ],
    ids=["wordpiece", "hashes", "bpe", "hyphen", "bytes", "spaces", "sentencepiece", "alone", "byte pieces"],
)  # fmt: skip
def test_tokens_become_words(tokens: list[str], expected: str) -> None:
    assert texts(tokens) == expected.split()
    assert [index for word in words_of(tokens) for index in word.tokens] == list(range(len(tokens)))


def test_spaces_at_the_end_stay_what_they_are() -> None:
    assert texts(["dog", "ĠĠ"]) == ["dog", "ĠĠ"]
    assert texts(["dog", "▁"]) == ["dog", "▁"]


def test_a_sentence_without_marks_is_read_as_asked() -> None:
    assert texts(["un", "believ", "able"]) == ["un", "believ", "able"]
    assert texts(["un", "believ", "able"], scheme="bpe") == ["unbelievable"]


def test_numbers_of_words_decide_alone() -> None:
    found = words_of(["[CLS]", "New", "York", "[SEP]", "[SEP]"], word_ids=[None, 0, 0, None, None])
    assert found == [Word("[CLS]", (0,)), Word("NewYork", (1, 2)), Word("[SEP]", (3,)), Word("[SEP]", (4,))]


def test_places_in_the_text_decide_in_place_of_marks() -> None:
    text = "A bulldog's toy."
    offsets = [(0, 0), (0, 1), (1, 6), (6, 9), (9, 10), (10, 11), (11, 15), (15, 16), (0, 0)]
    tokens = ["<s>", "a", "bull", "dog", "'", "s", "toy", ".", "</s>"]
    assert texts(tokens, offsets=offsets, text=text) == ["<s>", "A", "bulldog", "'", "s", "toy", ".", "</s>"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"word_ids": [0]}, "word_ids must be one per token, 2, got 1"),
        ({"offsets": [], "text": "a b"}, "offsets must be one per token, 2, got 0"),
        ({"offsets": [(0, 1), (2, 3)]}, "got no text; give both"),
        ({"text": "a b"}, "got no offsets; give both"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        words_of(["a", "b"], **given)


def test_every_occurrence_is_found_whatever_its_case() -> None:
    words = words_of(["The", "dog", "and", "the", "dog", "##gy", "STRASSE"])
    assert [word.tokens for word in find_words(words, "the")] == [(0,), (3,)]
    assert [word.tokens for word in find_words(words, "DOG")] == [(1,)]
    assert [word.tokens for word in find_words(words, "straße")] == [(6,)]


def test_a_word_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(ArgumentError, match="got 'cat'; there are: dog, doggy"):
        find_words(words_of(["dog", "dog", "##gy", "dog"]), "cat")
    with pytest.raises(ArgumentError, match="there are: none"):
        find_words([], "cat")


NAMES = {0: "a", 1: "##b"}
TOKENIZERS = {
    "transformers": SimpleNamespace(convert_ids_to_tokens=lambda ids: [NAMES.get(number) for number in ids]),
    "tokenizers": SimpleNamespace(id_to_token=NAMES.get),
    "function": lambda ids: [NAMES.get(number) for number in ids],
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_tokenizers_of_every_kind_name_tokens(kind: str) -> None:
    assert token_texts(TOKENIZERS[kind], [1, 0]) == ["##b", "a"]
    with pytest.raises(ArgumentError, match=r"none for \[7\]; is it the one"):
        token_texts(TOKENIZERS[kind], [0, 7])


def test_what_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(ArgumentError, match="or be a function from numbers to strings, got int"):
        token_texts(3, [1])
    with pytest.raises(ArgumentError, match="got 1 for 2 numbers;"):
        token_texts(lambda _: ["a"], [0, 1])


def test_real_tokenizers_give_back_the_words() -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra train")
    sentence = "The unbelievable bulldog, it bites cafés!"
    expected = ["The", "unbelievable", "bulldog", ",", "it", "bites", "cafés", "!"]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([sentence], trainer)
    encoded = bpe.encode(sentence)
    assert len(encoded.tokens) > len(expected)
    assert texts(token_texts(bpe, encoded.ids)) == expected
    assert texts(encoded.tokens, offsets=encoded.offsets, text=sentence) == expected
    assert texts(encoded.tokens, word_ids=encoded.word_ids) == expected
