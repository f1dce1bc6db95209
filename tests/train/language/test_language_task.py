"""The task of a language model: every token is predicted once, and never from what comes after it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from regard import RegardError
from regard.models import Decoder, DecoderConfig
from regard.records import Run
from regard.train import Silent, choose_hardware
from regard.train.language.config import LanguageData, LanguageOptim
from regard.train.language.corpus import LanguageCorpus, build_language_corpus
from regard.train.language.task import LanguageTask

TEXT = "".join(f"line {number} says {'abc'[number % 3]} again\n" for number in range(200))


def corpus(folder: Path, text: str = TEXT, window: int = 16) -> LanguageCorpus:
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(text, encoding="utf-8")
    run = Run.create(folder / "run", recipe="language-model")
    return build_language_corpus(LanguageData(path=folder / "text.txt", window=window), run=run, progress=Silent())


def task(found: LanguageCorpus, window: int = 16) -> LanguageTask:
    torch.manual_seed(0)
    model = Decoder(
        DecoderConfig(
            vocab_size=found.tokenizer.vocab_size,
            embed_dim=16,
            num_heads=2,
            num_layers=1,
            feed_forward_dim=32,
            max_len=window,
            positions="rotary",
        )
    )
    optim, hardware = LanguageOptim(batch_size=4), choose_hardware("cpu", "float32")
    return LanguageTask(model, found, window=window, optim=optim, seed=0, hardware=hardware)


def test_the_corpus_is_the_text_and_its_vocabulary_that_of_the_training_part(tmp_path: Path) -> None:
    found = corpus(tmp_path, TEXT + "ß\n")
    parts = [found.tokenizer.decode(found.ids[name].tolist()) for name in ("train", "validation", "test")]
    assert "".join(parts[:2]) == TEXT[: len(parts[0]) + len(parts[1])]
    assert found.ids["test"][-2] == 1  # <unk>
    assert found.audit["splits"]["test"]["num_unknown"] == 1
    assert found.audit["warnings"] == ["1 characters of test are not in train, such as 'ß'."]
    assert found.parts["test"].num_bytes.sum() == len(found.ids["test"]) + 1
    assert found.parts["test"].num_words.sum() == found.audit["splits"]["test"]["num_words"] == len(parts[2].split())
    rows = Run.open(tmp_path / "run").read("split")
    assert [rows[name]["rows"][0][0] for name in rows] == [1, len(parts[0]) + 1, len(parts[0]) + len(parts[1]) + 1]


def test_nats_are_the_cross_entropy_of_each_window_by_itself(tmp_path: Path) -> None:
    found = corpus(tmp_path)
    made = task(found)
    ids = found.ids["test"][:39]  # two whole windows and a short one
    expected = []
    with torch.inference_mode():
        for first, last in ((0, 16), (16, 32), (32, 38)):
            tokens = torch.tensor(ids[first : last + 1])[None]
            logits = made.model.eval()(tokens[:, :-1])
            expected += F.cross_entropy(logits[0], tokens[0, 1:], reduction="none").tolist()
    assert len(expected) == 38
    assert made.nats(ids) == pytest.approx(np.array(expected), rel=1e-5)


def test_the_loss_of_a_batch_is_that_of_its_windows(tmp_path: Path) -> None:
    found = corpus(tmp_path)
    made = task(found)
    made.model.eval()
    result = made.loss([3, 100])
    each = [made.nats(found.ids["train"][start : start + 17]).mean() for start in (3, 100)]
    assert float(result.loss.detach()) == pytest.approx(np.mean(each), rel=1e-5)
    assert (result.num_tokens, result.num_cells, result.weight) == (32, 32, 32)


def test_a_large_vocabulary_is_scored_in_smaller_batches_and_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = task(corpus(tmp_path))
    ids = corpus(tmp_path / "again").ids["test"]
    whole = made.nats(ids)
    rows: list[int] = []
    made.model.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    monkeypatch.setattr("regard.train.language.task._EVALUATION_LOGITS", 40 * made.model.config.vocab_size)

    assert made.nats(ids) == pytest.approx(whole, rel=1e-5)
    assert max(rows) == 2  # windows of 16 tokens


def test_validation_is_of_the_validation_text(tmp_path: Path) -> None:
    found = corpus(tmp_path)
    made = task(found)
    figures = made.validate()
    assert figures["loss"] == pytest.approx(made.nats(found.ids["validation"]).mean())
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))


def test_a_text_too_short_for_its_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegardError, match=r"two windows of 256 tokens, got \d+ tokens for validation; lower"):
        corpus(tmp_path, TEXT, window=256)
