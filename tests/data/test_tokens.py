import sys

import pytest

from regard._errors import ArgumentError, DataError, MissingDependencyError
from regard.data import load_tokenizer, train_wordpiece

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra regard[train]")

TEXTS = ["the cat sat on the mat", "the dog sat on the cat", "a caf\u00e9 and a mat"] * 5


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, vocab_size=120)


def test_lengths_are_those_before_truncation(tokenizer):
    encoded = tokenizer.encode(["cat", "the cat sat on the mat", ""], max_len=5)

    assert encoded.lengths == [3, 8, 2]
    assert [len(ids) for ids in encoded.ids] == [3, 5, 2]


@pytest.mark.parametrize("max_len", range(3, 9))
def test_truncation_keeps_the_special_tokens_and_the_beginning(tokenizer, max_len):
    (whole,) = tokenizer.encode(TEXTS[:1], max_len=100).ids

    (cut,) = tokenizer.encode(TEXTS[:1], max_len=max_len).ids

    assert cut == [*whole[: max_len - 1], whole[-1]]


def test_truncation_is_that_of_the_library(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.enable_truncation(6)

    assert tokenizer.encode(TEXTS, max_len=6).ids == [encoding.ids for encoding in theirs.encode_batch(TEXTS)]


def test_padding_and_truncation_of_the_file_are_off(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.enable_truncation(4)
    theirs.enable_padding(length=32)
    theirs.save(str(tmp_path / "tokenizer.json"))

    assert load_tokenizer(tmp_path).encode(TEXTS, max_len=64) == tokenizer.encode(TEXTS, max_len=64)


def test_progress_is_told_from_first_to_last(tokenizer):
    told = []

    tokenizer.encode(["cat"] * 1200, max_len=8, progress=lambda done, total: told.append((done, total)))

    assert told == [(512, 1200), (1024, 1200), (1200, 1200)]


def test_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path / "model")

    assert path.name == "tokenizer.json"
    assert [entry.name for entry in path.parent.iterdir()] == ["tokenizer.json"]
    assert load_tokenizer(tmp_path / "model").encode(TEXTS, max_len=32) == tokenizer.encode(TEXTS, max_len=32)


@pytest.mark.parametrize("max_len", [0, 2])
def test_length_without_room_for_a_token_is_refused(tokenizer, max_len):
    with pytest.raises(ArgumentError, match=f"greater than the 2 special tokens, got {max_len}"):
        tokenizer.encode(["cat"], max_len=max_len)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"with tokenizer.json is needed, got no file at"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "must be a tokenizer in JSON"), (b"\xff", "must be a tokenizer in JSON"), (b"{}", "Model missing")],
)
def test_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_tokenizer_without_padding_token_is_refused():
    from regard.data import Tokenizer

    with pytest.raises(DataError, match=r"without .PAD. or <pad>"):
        _ = Tokenizer(tokenizers.Tokenizer(tokenizers.models.WordPiece())).pad_id


def test_absent_library_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    with pytest.raises(MissingDependencyError, match=r"regard\[train\]"):
        load_tokenizer(tmp_path)


@pytest.mark.data
def test_minilm_tokenizer_encodes_as_bert_does(minilm):
    encoded = load_tokenizer(minilm).encode(["Hello world!", ""], max_len=256)

    assert encoded.ids == [[101, 7592, 2088, 999, 102], [101, 102]]
