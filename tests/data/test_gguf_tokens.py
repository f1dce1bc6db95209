import sys

import pytest

from regard._errors import DataError, MissingDependencyError, UnsupportedError
from regard.data import load_gguf_tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra regard[gguf]")

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.!'", "Ġ", "Ċ", "Ã", "©"]
MERGES = ["t h", "th e", "Ġ the", "c a", "ca t", "Ġ cat", "Ġ 1", "1 2", "Ã ©"]
PIECES = ["<|end|>", "<|user|>", *LETTERS, *(pair.replace(" ", "") for pair in MERGES)]


def written(path, *, model="gpt2", pre="smollm", leave_out=(), **flags):
    writer = gguf.GGUFWriter(path, "llama")
    if model is not None:
        writer.add_tokenizer_model(model)
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(PIECES)
    writer.add_token_types([3, 3, *[1] * (len(PIECES) - 2)])
    if "merges" not in leave_out:
        writer.add_token_merges(MERGES)
    for name, value in flags.items():
        writer.add_bool(f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture
def pieces(tmp_path):
    """Return a function from a text to its pieces."""

    def cut(text, **options):
        tokenizer = load_gguf_tokenizer(written(tmp_path / "model.gguf", **options))
        ids = tokenizer.encode([text], max_len=100).ids[0]
        assert tokenizer.decode(ids) == text.replace("<|end|>", "").replace("<|user|>", "")
        return [PIECES[number] for number in ids]

    return cut


def test_pairs_are_merged_within_words(pieces):
    assert pieces("the cat") == ["the", "Ġcat"]
    assert pieces("a the\ncat's") == ["a", "Ġthe", "Ċ", "cat", "'", "s"]


def test_each_digit_stands_alone_where_the_model_was_trained_so(pieces):
    assert pieces("a 112") == ["a", "Ġ", "1", "1", "2"]
    assert pieces("a 112", pre="gpt-2") == ["a", "Ġ1", "12"]


def test_a_letter_beyond_ascii_is_its_bytes(pieces):
    assert pieces("é") == ["Ã©"]


def test_control_tokens_are_one_piece_anywhere(pieces):
    assert pieces("<|user|>the<|end|>") == ["<|user|>", "the", "<|end|>"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "llama"}, "kind 'gpt2' cut as one of 'gpt-2', 'smollm', got 'llama' cut as 'smollm'"),
        ({"pre": "llama-bpe"}, "got 'gpt2' cut as 'llama-bpe'"),
        ({"add_bos_token": True}, r"nothing around a text, got tokenizer\.ggml\.add_bos_token"),
    ],
)
def test_another_kind_is_refused_by_name(options, message, tmp_path):
    with pytest.raises(UnsupportedError, match=message):
        load_gguf_tokenizer(written(tmp_path / "model.gguf", **options))


def test_flags_that_are_off_are_fine(pieces):
    assert pieces("the", add_bos_token=False, add_space_prefix=False) == ["the"]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="must hold a tokenizer, got none"):
        load_gguf_tokenizer(written(tmp_path / "model.gguf", model=None))
    with pytest.raises(DataError, match=r"must hold tokenizer\.ggml\.merges"):
        load_gguf_tokenizer(written(tmp_path / "model.gguf", leave_out=["merges"]))
    with pytest.raises(DataError, match=r"A GGUF file is needed, got .*absent"):
        load_gguf_tokenizer(tmp_path / "absent.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match=r"regard\[gguf\]"):
        load_gguf_tokenizer(tmp_path / "model.gguf")
