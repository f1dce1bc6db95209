"""Figures of one text are those of the text, whatever cut it into tokens."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.data import RunningTokens
from regard.evaluate import score_models
from regard.records import Run
from regard.train import Silent
from regard.train.language.config import LanguageData
from regard.train.language.corpus import LanguageCorpus, build_language_corpus
from regard.train.language.scores import counted_baselines, language_metrics, row_sums, told_of_unknowns
from regard.train.language.texts import load_parts

TEXT = "".join(f"Zeile {number} sagt wieder {'abc'[number % 3]}, für immer.\n" for number in range(400))


def corpus(folder: Path, text: str = TEXT, **more: Any) -> tuple[LanguageData, LanguageCorpus]:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    config = LanguageData(path=folder / "text.txt", window=8, **more)
    run = Run.create(folder / "run", recipe="language-model")
    return config, build_language_corpus(config, run=run, progress=Silent())


@pytest.mark.parametrize("tokens", ["characters", "subwords", "words"])
def test_a_model_that_knows_a_byte_by_a_bit_gets_one_in_any_tokens(tokens: str, tmp_path: Path) -> None:
    config, found = corpus(tmp_path, TEXT, tokens=tokens)
    test, text = found.parts["test"], load_parts(config).texts["test"]
    nats = math.log(2) * test.num_bytes[1:].astype(float)
    content = score_models("x", language_metrics(config, found), [row_sums("a", "model", nats, test, 8, {})], unit="x")
    values = {name: one["value"] for name, one in content["models"][0]["metrics"].items()}

    # The first token is predicted by nothing: neither its bytes nor a word that begins in it count.
    num_bytes, num_words = len(text.encode()) - test.num_bytes[0], len(text.split()) - test.num_words[0]
    assert values["loss"] == pytest.approx(nats.sum() / (len(test.ids) - 1))
    assert values["perplexity"] == pytest.approx(math.exp(values["loss"]))
    assert values["word_perplexity"] == pytest.approx(2.0 ** (num_bytes / num_words))
    assert values.get("bits_per_byte", 1) == pytest.approx(1)
    assert ("bits_per_byte" in values) == (tokens != "words")  # line numbers are unknown words


def test_figures_with_unknown_words_say_so_and_bits_a_byte_are_left_out(tmp_path: Path) -> None:
    config, found = corpus(tmp_path, tokens="words", vocab_size=12)
    metrics = language_metrics(config, found)
    count = found.num_unknown("test")

    assert count > 0
    assert [metric.name for metric in metrics] == ["loss", "word_perplexity", "perplexity"]
    assert metrics[1].title == "Perplexity per word, with <unk>"
    assert told_of_unknowns(found).startswith(f"; {count:,} of the test tokens (")
    assert "all figures are of the text with <unk> in their place" in told_of_unknowns(found)


def test_a_character_that_is_not_known_is_said_beside_bits_a_byte(tmp_path: Path) -> None:
    config, found = corpus(tmp_path, TEXT + "ß\n")

    assert {one.name: one.title for one in language_metrics(config, found)} == {
        "loss": "Nats per token",
        "perplexity": "Perplexity per token",
        "bits_per_byte": "Bits per byte, with <unk>",
        "word_perplexity": "Perplexity per word, with <unk>",
    }
    (tmp_path / "b").mkdir()
    config, found = corpus(tmp_path / "b")
    assert [one.title for one in language_metrics(config, found)][2:] == ["Bits per byte", "Perplexity per word"]
    assert told_of_unknowns(found) == ""


def test_words_as_long_as_sentences_have_no_perplexity_and_raise_no_warning(tmp_path: Path) -> None:
    test = RunningTokens(ids=np.ones(2001, int), num_bytes=np.ones(2001, int), num_words=np.eye(1, 2001, 7, int)[0])
    config, found = corpus(tmp_path)
    rows = [row_sums("a", "model", np.ones(2000), test, 8, {})]
    metrics = score_models("x", language_metrics(config, found), rows, unit="x")["models"][0]["metrics"]

    assert metrics["word_perplexity"]["value"] is None
    assert metrics["loss"]["value"] == 1


def test_sums_of_windows_are_those_of_their_tokens() -> None:
    test = RunningTokens(
        ids=np.arange(6), num_bytes=np.array([9, 1, 2, 3, 4, 5]), num_words=np.array([1, 0, 1, 0, 1, 1])
    )
    columns = row_sums("a", "model", np.array([1.0, 2, 3, 4, 5]), test, 2, {}).columns

    assert np.asarray(columns["nats"]).tolist() == [3, 7, 5]
    assert np.asarray(columns["tokens"]).tolist() == [2, 2, 1]
    assert np.asarray(columns["bytes"]).tolist() == [3, 7, 5]
    assert np.asarray(columns["words"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("tokens", "longest"), [("characters", 8), ("subwords", 5), ("words", 5)])
def test_baselines_are_counted_in_the_same_tokens(tokens: str, longest: int, tmp_path: Path) -> None:
    config, found = corpus(tmp_path, tokens=tokens)
    rows = list(counted_baselines(config, found))

    assert rows[-1][0] == "single tokens"
    assert [len(nats) for _, nats, _ in rows] == [len(found.ids["test"]) - 1] * len(rows)
    assert 1 < rows[0][2]["order"] <= longest
    assert rows[0][1].mean() < rows[1][1].mean()
