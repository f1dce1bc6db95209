"""Pairs become audited, split and encoded splits; what was left out is said."""

from functools import partial
from itertools import chain

import pytest

from regard._errors import DataError
from regard.data import train_subwords, word_tokenizer
from regard.records import Run
from regard.train import Silent
from regard.train.translation.config import PairsConfig
from regard.train.translation.corpus import build_pairs

ROWS = [(f"sentence {n} of {n % 7}", f"Satz {n} von {n % 7}") for n in range(60)]


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", recipe="test")


def table(path, rows):
    path.write_text("".join(f"{a}\t{b}\n" for a, b in [("source", "target"), *rows]), encoding="utf-8")
    return path


def build(run, learn=word_tokenizer, seed=0, **config):
    return build_pairs(PairsConfig(**config), learn, seed=seed, run=run, progress=Silent())


def sources(corpus):
    return {name: split.pairs.source for name, split in corpus.splits.items()}


def test_every_pair_is_in_exactly_one_split(run, tmp_path):
    found = sources(build(run, path=table(tmp_path / "a.tsv", ROWS)))

    assert sorted(chain(*found.values())) == sorted(source for source, _ in ROWS)
    assert {name: len(rows) for name, rows in found.items()} == {"train": 51, "validation": 3, "test": 6}


def test_files_of_their_own_are_left_as_they_are(run, tmp_path):
    files = {
        f"{name}path": table(tmp_path / f"{name}pairs.tsv", rows)
        for name, rows in (("", ROWS[:40]), ("validation_", ROWS[40:50]), ("test_", ROWS[50:]))
    }

    corpus = build(run, **files)

    assert [len(rows) for rows in sources(corpus).values()] == [40, 10, 10]
    assert run.read("split")["test"]["files"] == [str(files["test_path"])]
    assert run.read("audit")["source"]["files"] == [str(file) for file in files.values()]


def test_ids_give_back_the_texts_and_end(run, tmp_path):
    learn = partial(train_subwords, vocab_size=300)
    corpus = build(run, learn, path=table(tmp_path / "a.tsv", ROWS))

    train, tokenizer = corpus.splits["train"], corpus.tokenizer
    assert [tokenizer.decode(ids) for ids in train.target] == train.pairs.target
    assert {ids[-1] for ids in [*train.source, *train.target]} == {tokenizer.eos_id}


def test_the_vocabulary_is_that_of_the_training_pairs_alone(run, tmp_path):
    given = []

    def learn(texts):
        given.extend(texts)
        return word_tokenizer(texts)

    corpus = build(run, learn, path=table(tmp_path / "a.tsv", ROWS))

    train = corpus.splits["train"].pairs
    assert given == [*train.source, *train.target]


def test_half_empty_pairs_are_left_out_and_said(run, tmp_path):
    corpus = build(run, path=table(tmp_path / "a.tsv", [*ROWS[:5], ("", "nichts"), *ROWS[5:]]))

    assert sum(map(len, sources(corpus).values())) == 60
    assert corpus.audit["warnings"][-1] == "1 pairs with an empty side were left out, first a.tsv line 7."


def test_two_files_line_for_line(run, tmp_path):
    for side, column in (("en", 0), ("de", 1)):
        (tmp_path / side).write_text("".join(f"{row[column]}\n" for row in ROWS), encoding="utf-8")

    corpus = build(
        run,
        source="lines",
        path=tmp_path / "en",
        target_path=tmp_path / "de",
        max_train=20,
        test_share=0.4,
        max_test=16,
    )

    assert [len(rows) for rows in sources(corpus).values()] == [20, 2, 16]


def test_the_same_seed_splits_alike(run, tmp_path):
    path = table(tmp_path / "a.tsv", ROWS)

    assert sources(build(run, path=path)) == sources(build(run, path=path)) != sources(build(run, path=path, seed=1))


def test_an_absent_column_is_named(run, tmp_path):
    with pytest.raises(DataError, match="must have a column 'en', got the columns 'source', 'target'"):
        build(run, path=table(tmp_path / "a.tsv", ROWS), source_column="en")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "data.path must name the file to learn from"),
        ({"path": "a", "source": "lines"}, "data.target_path must name the other side's lines"),
        ({"path": "a", "source": "lines", "target_path": "b", "test_target_path": "c"}, "data.test_path must name"),
        ({"path": "a", "target_path": "b"}, "data.target_path is for data.source=lines, got data.source=table"),
    ],
)
def test_a_config_without_its_files_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PairsConfig(**values)
