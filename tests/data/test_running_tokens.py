"""Tokens of one long text: what they stand for adds up to the text, whatever cut it."""

import gzip
from pathlib import Path

import pytest

from regard import RegardError
from regard.data import (
    Tokenizer,
    character_tokenizer,
    encode_running,
    load_tokenizer,
    running_subwords,
    running_words,
    train_subwords,
)

TEXT = "".join(f"line {number}, says the {'abc'[number % 3]}: fünf €, 日本語 🙂!\n" for number in range(40))
ODD = [
    "a\n",
    "\n\n \n",
    " two  spaces\t\n",
    "no end of line",
    "日本語 🙂 ﬁ\u2028after it",
    "<pad> is <unk>, </s>\r\n",
    "\uff21\u00a0b",
]
MAKERS = {
    "characters": lambda text: character_tokenizer(text),
    "subwords": lambda text: running_subwords(text, vocab_size=330),
    "words": lambda text: running_words(text, vocab_size=60),
    "a translator's": lambda text: train_subwords(text.splitlines(), vocab_size=330),
}


@pytest.fixture(scope="module", params=list(MAKERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return MAKERS[request.param](TEXT)


@pytest.mark.parametrize("text", [TEXT, *ODD], ids=lambda text: repr(text[:20]))
def test_bytes_and_words_of_the_tokens_add_up_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    found = encode_running(tokenizer, text)

    assert len(found.ids) == len(found.num_bytes) == len(found.num_words)
    assert found.num_bytes.sum() == len(text.encode())
    assert found.num_words.sum() == len(text.split())
    assert found.num_bytes.min() >= 0


@pytest.mark.parametrize("text", [TEXT, *ODD], ids=lambda text: repr(text[:20]))
def test_subwords_give_every_text_back_and_know_everything(text: str) -> None:
    tokenizer = running_subwords(TEXT, vocab_size=330)
    found = encode_running(tokenizer, text)

    assert tokenizer.decode(found.ids.tolist()) == text
    assert tokenizer.unknown_id is None
    assert tokenizer.pad_id not in found.ids


def test_bytes_and_words_of_each_token_are_its_own() -> None:
    text = "é so  it\nis so\n"
    tokenizer = running_words("é so  it\nis so\n" * 2, vocab_size=99)
    found = encode_running(tokenizer, text)
    pieces = [tokenizer.decode([number]) for number in found.ids.tolist()]

    assert pieces == ["é", " so", " ", " it", "\n", "is", " so", "\n"]
    assert found.num_bytes.tolist() == [2, 3, 1, 3, 1, 2, 3, 1]
    assert found.num_words.tolist() == [1, 1, 0, 1, 0, 1, 1, 0]


def test_a_character_of_several_tokens_counts_once() -> None:
    found = encode_running(running_subwords("plain text\n", vocab_size=257), "a€ b\n")

    assert len(found.ids) == 7
    assert found.num_bytes.tolist() == [1, 3, 0, 0, 1, 1, 1]
    assert found.num_words.tolist() == [1, 0, 0, 0, 0, 1, 0]


def test_no_token_runs_over_a_line_end() -> None:
    tokenizer = running_subwords("\n\n\n\n" * 20 + TEXT, vocab_size=330)
    both = encode_running(tokenizer, "a\n\n\nb\n").ids

    assert both.tolist() == [*encode_running(tokenizer, "a\n\n").ids, *encode_running(tokenizer, "\nb\n").ids]


def test_learning_again_and_reading_give_the_same(tmp_path: Path) -> None:
    for name in ("subwords", "words"):
        first, again = MAKERS[name](TEXT), MAKERS[name](TEXT)
        assert first.save(tmp_path / "a").read_bytes() == again.save(tmp_path / "b").read_bytes()
        read = load_tokenizer(tmp_path / "a")
        for text in (TEXT, *ODD):
            assert encode_running(read, text).ids.tolist() == encode_running(first, text).ids.tolist()
        assert (read.pad_id, read.unknown_id) == (first.pad_id, first.unknown_id)


def test_words_are_those_that_stand_twice_the_most_frequent_first() -> None:
    tokenizer = running_words("a b, a c\na b, a <unk> <unk> <unk>\n", vocab_size=9)
    pieces = [tokenizer.decode([number]) for number in range(2, tokenizer.vocab_size)]

    assert pieces == ["\n", " a", " b", ",", "a"]
    assert running_words("a b, a c\na b, a\n", vocab_size=4).vocab_size == 4


@pytest.mark.parametrize("unknown", ["wolf", "<unk>"])
def test_unknown_words_are_one_token_and_those_that_are_spelled_too(unknown: str) -> None:
    tokenizer = running_words("a cat, a dog\na cat, a dog\n", vocab_size=20)
    found = encode_running(tokenizer, f"a {unknown}, a cat\n").ids.tolist()

    assert (tokenizer.unknown_id, found.count(1)) == (1, 1)
    assert tokenizer.decode(found) == "a <unk>, a cat\n"


def test_a_text_that_spells_padding_is_not_padded() -> None:
    for tokenizer in (running_words("a cat\na cat\n", vocab_size=20), running_subwords("a <pad>\n", vocab_size=300)):
        assert tokenizer.pad_id == 0
        assert 0 not in encode_running(tokenizer, "<pad> a <pad>\n").ids


def test_what_cannot_be_learnt_is_refused() -> None:
    with pytest.raises(RegardError, match=r"vocab_size must be at least 257, .*, got 256"):
        running_subwords(TEXT, vocab_size=256)
    with pytest.raises(RegardError, match=r"vocab_size must be above 2, .*, got 2"):
        running_words(TEXT, vocab_size=2)
    with pytest.raises(RegardError, match="words that stand in it twice, got none"):
        running_words("each word once", vocab_size=9)
    for learn in (running_subwords, running_words):
        with pytest.raises(RegardError, match="got none but white space"):
            learn(" \n", vocab_size=300)


def test_the_lines_of_wikitext_come_back(shared_data: Path) -> None:
    with gzip.open(shared_data / "lm" / "wikitext2_valid.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read(200_000)
    subwords, words = running_subwords(text, vocab_size=2000), running_words(text, vocab_size=2000)

    assert subwords.decode(encode_running(subwords, text).ids.tolist()) == text
    found = encode_running(words, text)
    assert (found.num_bytes.sum(), found.num_words.sum()) == (len(text.encode()), len(text.split()))
