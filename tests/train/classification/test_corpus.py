"""Documents become audited, split and encoded splits; what was left out is said."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from regard import RegardError
from regard.data import Tokenizer, train_wordpiece
from regard.records import Run
from regard.train import Silent
from regard.train.classification.config import DataConfig
from regard.train.classification.corpus import Corpus, build_corpus

ROWS = [
    (f"topic {number % 2}", f"document {number} about subject {number % 7} and {number % 5}") for number in range(40)
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([text for _, text in ROWS], vocab_size=60)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe="test")


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("label", "text"), *rows])
    return path


def build(config: DataConfig, tokenizer: Tokenizer, run: Run) -> Corpus:
    return build_corpus(config, tokenizer, seed=0, run=run, progress=Silent())


def texts(corpus: Corpus) -> dict[str, list[str]]:
    return {name: split.documents.texts for name, split in corpus.splits.items()}


def test_every_row_is_in_exactly_one_split(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    corpus = build(DataConfig(path=write(tmp_path / "all.csv", ROWS)), tokenizer, run)
    found = texts(corpus)
    assert sorted(itertools.chain(*found.values())) == sorted(text for _, text in ROWS)
    assert {name: len(rows) for name, rows in found.items()} == {"train": 28, "validation": 4, "test": 8}
    assert corpus.labels == ["topic 0", "topic 1"]
    assert corpus.audit["source"]["name"].endswith("all.csv")


def test_a_test_file_is_left_as_it_is(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "a.csv", ROWS[:30]), test_path=write(tmp_path / "b.csv", ROWS[30:]))
    assert texts(build(config, tokenizer, run))["test"] == [text for _, text in ROWS[30:]]


def test_rows_without_text_are_left_out_and_said(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", [*ROWS, ("topic 0", " "), ("topic 1", "")])
    corpus = build(DataConfig(path=path), tokenizer, run)
    assert sum(map(len, texts(corpus).values())) == len(ROWS)
    assert any("2 rows without text were left out" in warning for warning in run.read("audit")["warnings"])


def test_the_split_is_the_same_every_time_and_written_down(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "all.csv", ROWS))
    first = texts(build(config, tokenizer, run))
    written = run.read("split")
    assert texts(build(config, tokenizer, run)) == first
    assert run.read("split") == written
    assert sum(last - first + 1 for first, last in written["test"]["rows"]) == 8


def test_long_documents_are_cut_and_counted(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", ROWS)
    corpus = build(DataConfig(path=path, max_len=8), tokenizer, run)
    assert all(len(ids) <= 8 for split in corpus.splits.values() for ids in split.ids)
    assert corpus.audit["splits"]["train"]["truncated_share"] > 0.5


@pytest.mark.parametrize("test_split", [None, "holdout"])
def test_a_local_copy_of_a_hub_set_is_read_with_its_splits(
    tokenizer: Tokenizer, run: Run, tmp_path: Path, test_split: str | None
) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf brings the library datasets")

    def table(rows: list[tuple[str, str]]) -> object:
        return datasets.Dataset.from_dict({"label": [label for label, _ in rows], "text": [text for _, text in rows]})

    datasets.DatasetDict({"train": table(ROWS[:30]), "holdout": table(ROWS[30:])}).save_to_disk(tmp_path / "copy")
    config = DataConfig(source="hub", name=str(tmp_path / "copy"), test_split=test_split)
    found = texts(build(config, tokenizer, run))
    if test_split is None:
        assert sum(map(len, found.values())) == 30
    else:
        assert found["test"] == [text for _, text in ROWS[30:]]


def test_one_class_is_not_enough(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "all.csv", [("same", text) for _, text in ROWS])
    with pytest.raises(RegardError, match="two classes or more, got only 'same'"):
        build(DataConfig(path=path), tokenizer, run)


@pytest.mark.parametrize(("copies", "needed"), [(1, 3), (2, 3)])
def test_a_label_with_too_few_texts_is_named(
    tokenizer: Tokenizer, run: Run, tmp_path: Path, copies: int, needed: int
) -> None:
    rare = [("rare", f"odd one {n}") for n in range(copies)]
    path = write(tmp_path / "all.csv", [*ROWS, *rare, *rare])
    with pytest.raises(RegardError, match=f"needs {needed} different texts .* got {copies} for 'rare' .*line 42"):
        build(DataConfig(path=path), tokenizer, run)
    assert not run.has("audit")


def test_few_documents_keep_every_class(tokenizer: Tokenizer, run: Run, tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "all.csv", ROWS), max_train=20, max_test=16)
    corpus = build(config, tokenizer, run)
    assert {len(corpus.splits["train"].ids) + len(corpus.splits["validation"].ids)} == {20}
    assert set(corpus.splits["validation"].targets) == {0, 1}


def test_a_vocabulary_is_learnt_from_the_training_documents_alone(run: Run, tmp_path: Path) -> None:
    config = DataConfig(path=write(tmp_path / "all.csv", ROWS))
    seen: list[str] = []

    def learn(texts: Sequence[str]) -> Tokenizer:
        seen.extend(texts)
        return train_wordpiece(texts, vocab_size=40)

    corpus = build_corpus(config, learn, seed=0, run=run, progress=Silent())
    split = corpus.splits["train"]
    assert seen == split.documents.texts
    assert split.ids == corpus.tokenizer.encode(split.documents.texts, config.max_len).ids
