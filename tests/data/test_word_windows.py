"""Each word is in one window, at the place of its first piece, and a window is never too long."""

import pytest

from regard._errors import ArgumentError
from regard.data import TaggedSentences, audit_tagged, encode_words, train_wordpiece


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(["low lower lowest new newer wide wider " * 5], vocab_size=40)


SENTENCES = [["low", "lowest", "newer"], ["wide"] * 9, ["newest"], ["low" + "e" * 12, "low"]]


@pytest.mark.parametrize("max_len", [6, 8, 64])
def test_every_word_is_in_one_window_at_its_first_piece(tokenizer, max_len):
    windows = encode_words(tokenizer, SENTENCES, max_len)

    whole = {word: tokenizer.encode([word], 512).ids[0][1] for words in SENTENCES for word in words}
    first = [[] for _ in SENTENCES]
    for ids, places, sentence in zip(windows.ids, windows.first_pieces, windows.sentences, strict=True):
        assert len(ids) <= max_len
        assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
        first[sentence] += [ids[place] for place in places]
    assert first == [[whole[word] for word in words] for words in SENTENCES]


def test_a_sentence_in_one_window_is_encoded_as_its_text(tokenizer):
    windows = encode_words(tokenizer, SENTENCES, 512)

    assert windows.ids == tokenizer.encode([" ".join(words) for words in SENTENCES], 512).ids
    assert windows.sentences == [0, 1, 2, 3]
    assert (windows.num_cut_sentences, windows.num_cut_words) == (0, 0)


def test_what_is_cut_is_counted(tokenizer):
    windows = encode_words(tokenizer, SENTENCES, 6)

    assert windows.lengths == encode_words(tokenizer, SENTENCES, 512).lengths
    assert windows.num_cut_words == 1
    assert windows.num_cut_sentences == sum(length > 6 for length in windows.lengths) == 2


def test_a_word_that_the_tokenizer_drops_is_unknown(tokenizer):
    [ids] = encode_words(tokenizer, [["low", "\u200b\x07", "new"]], 64).ids

    assert ids[2] == tokenizer.id_of("[UNK]")


def test_no_room_is_refused(tokenizer):
    with pytest.raises(ArgumentError, match="greater than the 2 special tokens, got 2"):
        encode_words(tokenizer, [["low"]], 2)
    with pytest.raises(ArgumentError, match="must have a word, got none in sentence 1"):
        encode_words(tokenizer, [["low"], []], 9)


def sentences(words, tags, name="a.conll"):
    return TaggedSentences(
        words=words, tags=tags, name=name, rows=list(range(1, len(words) + 1)), files=(name,), left_out={"comments": 2}
    )


def test_audit_tells_what_no_model_can_get_right(tokenizer):
    splits = {
        "train": sentences([["low", "new"], ["wide", "low"], ["low", "new"]], [["A", "B"], ["A", "A"], ["A", "A"]]),
        "test": sentences([["Low", "new"], ["wide"] * 9], [["A", "B"], ["C"] * 9], name="b.conll"),
    }
    windows = {name: encode_words(tokenizer, one.words, 8) for name, one in splits.items()}

    found = audit_tagged(splits, windows, max_len=8)

    assert found["leaks"]["exact"][0]["count"] == 1
    assert found["conflicts"]["count"] == 1
    assert found["splits"]["test"]["truncated_share"] == 0.5
    assert found["splits"]["train"]["labels"] == {"A": 5, "B": 1}
    assert found["left_out"] == {"comments": 4}
    told = " ".join(found["warnings"])
    for part in (
        "test has tags that train does not: 'C'; the model cannot name them, so 9 of its 11 words count as wrong",
        "50.0 % of test is longer than 8 tokens and read in windows",
        "Of 2 sentences of test, 1 are in train word for word",
        "tagged in more than one way: 1, the first at a.conll line 1 and a.conll line 3",
        "fewer than 10 words in train",
    ):
        assert part in told
    assert len(found["summary"]) == 4


def test_windows_of_another_split_are_refused(tokenizer):
    one = sentences([["low"]], [["A"]])
    with pytest.raises(ArgumentError, match="windows must hold each sentence of 'train', got 2 of 1"):
        audit_tagged({"train": one}, {"train": encode_words(tokenizer, [["low"], ["low"]], 8)}, max_len=8)
