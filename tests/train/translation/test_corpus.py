"""Pairs become audited, split and encoded splits; what was left out is said."""

import json
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


BOOKS = [
    {"ref": f"{name} {number}:1", "en": f"{name} says {number}", "de": f"{name} sagt {number}"}
    for name in "ABCDEFGHIJ"
    for number in range(6)
]
AS_BOOKS = {
    "source_column": "en",
    "target_column": "de",
    "document_column": "ref",
    "document_pattern": r"(\w) \d+:1",
    "test_share": 0.3,
    "validation_share": 0.2,
}


def books(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def names(split):
    return set(split.pairs.documents)


def test_whole_documents_are_held_out_and_the_audit_says_which(run, tmp_path):
    corpus = build(run, path=books(tmp_path / "a.jsonl", BOOKS), **AS_BOOKS)

    train, validation, test = (names(corpus.splits[name]) for name in ("train", "validation", "test"))
    assert train | validation | test == set("ABCDEFGHIJ")
    assert not train & validation
    assert not (train | validation) & test
    told = corpus.audit["documents"]
    assert {name: set(told[name]["names"]) for name in told} == {"train": train, "validation": validation, "test": test}
    assert set(run.read("split")["test"]["documents"]) == test
    assert told["test"]["num_source_words"] == 3 * 6 * len(test)
    assert corpus.audit["summary"][-1].startswith(f"Documents: train {len(train)} (")


def test_a_text_of_a_held_out_document_is_in_no_other_split(run, tmp_path):
    quoting = [
        *BOOKS,
        *({"ref": f"K {number}:1", "en": row["en"].upper(), "de": "?"} for number, row in enumerate(BOOKS)),
    ]
    corpus = build(run, path=books(tmp_path / "a.jsonl", quoting), **AS_BOOKS, test_documents=("A", "B"))

    test = {source.lower() for source in corpus.splits["test"].pairs.source}
    for name in ("train", "validation"):
        assert not test & {source.lower() for source in corpus.splits[name].pairs.source}
    assert all(entry["count"] == 0 for entry in corpus.audit["leaks"]["exact"])
    assert len(corpus.audit["dropped_quoted"]) >= 12
    assert "source that a held-out document has, too, were left out" in corpus.audit["warnings"][-1]


def test_a_document_in_two_files_is_refused(run, tmp_path):
    files = {
        "path": books(tmp_path / "a.jsonl", BOOKS[:30]),
        "test_path": books(tmp_path / "b.jsonl", [{"ref": "C 99:1", "en": "new", "de": "neu"}, *BOOKS[30:]]),
    }

    with pytest.raises(DataError, match=r"must be in one split, got 'C' in (train|validation) and in test"):
        build(run, **files, **AS_BOOKS)


def test_a_pair_is_read_with_what_stood_before_it_also_where_that_was_left_out(run, tmp_path):
    rows = [{"ref": "Z 0:1", "en": "first", "de": ""}, {"ref": "Z 1:1", "en": "second", "de": "zweiter"}, *BOOKS]
    corpus = build(run, path=books(tmp_path / "a.jsonl", rows), **AS_BOOKS, context=1, test_documents=("Z",))

    split, tokenizer = corpus.splits["test"], corpus.tokenizer
    assert split.pairs.contexts == [("first",)]
    assert split.source[0] == [token for text in ("second", "first") for token in tokenizer.encode([text], 9).ids[0]]
    others = corpus.splits["train"].pairs
    for source, context in zip(others.source, others.contexts, strict=True):
        name, _, number = source.split()
        assert context == ((f"{name} says {int(number) - 1}",) if number != "0" else ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"context": 1}, "data.context needs data.document_column"),
        ({"test_documents": ("A",)}, "data.test_documents needs data.document_column"),
        ({"document_pattern": "(.)"}, "data.document_pattern needs data.document_column"),
        ({"document_column": "d", "source": "scan"}, "data.document_column is for data.source=table"),
        (
            {"document_column": "d", "test_documents": ("A",), "validation_documents": ("A",)},
            "a document must be in one split, got 'A'",
        ),
        (
            {"document_column": "d", "test_documents": ("A",), "test_path": "b"},
            "data.test_documents are of data.path, got data.test_path as well",
        ),
    ],
)
def test_documents_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PairsConfig(path="a", **values)
