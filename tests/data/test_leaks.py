import random

import pytest

from regard._errors import ArgumentError
from regard.data import find_leaks

VOCABULARY = [f"word{number}" for number in range(500)]


def texts_of(seed, count):
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=60)) for _ in range(count)]


@pytest.fixture
def splits(make_documents):
    return {
        "train": make_documents(texts_of(0, 300), name="train.csv"),
        "test": make_documents(texts_of(1, 100), name="test.csv", first_row=1001),
    }


def planted(documents, texts):
    return type(documents)(
        texts=[*documents.texts[: -len(texts)], *texts],
        labels=documents.labels,
        name=documents.name,
        rows=documents.rows,
    )


def test_clean_splits_have_no_leak(splits):
    leaks = find_leaks(splits)

    assert [entry["count"] for entry in leaks.exact + leaks.near] == [0, 0]
    assert leaks.exact[0] == {"splits": ["train", "test"], "count": 0, "share_of_test": 0.0, "examples": []}
    assert leaks.repeated == {"train": 0, "test": 0}
    assert leaks.conflicts == []


def test_planted_two_percent_exact_leak_is_found_with_its_rows(splits):
    splits["test"] = planted(splits["test"], [splits["train"].texts[7].upper(), splits["train"].texts[3] + " \n"])

    leaks = find_leaks(splits)

    assert leaks.exact == [
        {"splits": ["train", "test"], "count": 2, "share_of_test": 0.02, "examples": [[8, 1099], [4, 1100]]}
    ]
    assert leaks.near[0]["count"] == 0


def test_planted_two_percent_near_leak_is_found_and_is_not_exact(splits):
    splits["test"] = planted(splits["test"], [splits["train"].texts[7] + " end", "start " + splits["train"].texts[3]])

    leaks = find_leaks(splits)

    assert leaks.exact[0]["count"] == 0
    assert leaks.near == [
        {
            "splits": ["train", "test"],
            "count": 2,
            "share_of_test": 0.02,
            "examples": [[8, 1099], [4, 1100]],
            "threshold": 0.8,
        }
    ]


def test_document_that_leaks_both_ways_counts_once(splits):
    text = splits["train"].texts[0]
    splits["train"] = planted(splits["train"], [text + " end"])
    splits["test"] = planted(splits["test"], [text])

    leaks = find_leaks(splits)

    assert (leaks.exact[0]["count"], leaks.near[0]["count"]) == (1, 0)


def test_every_pair_of_splits_is_compared(splits, make_documents):
    splits["validation"] = make_documents([splits["test"].texts[5], *texts_of(2, 3)])

    leaks = find_leaks(splits)

    assert {tuple(entry["splits"]): entry["count"] for entry in leaks.exact} == {
        ("train", "test"): 0,
        ("train", "validation"): 0,
        ("test", "validation"): 1,
    }


def test_empty_texts_are_no_leak(make_documents):
    leaks = find_leaks({"train": make_documents(["", "a"]), "test": make_documents([" ", "b"])})

    assert leaks.exact[0]["count"] == 0
    assert leaks.repeated == {"train": 0, "test": 0}


def test_repeats_within_a_split_are_counted(make_documents):
    leaks = find_leaks({"train": make_documents(["a", "A", "a ", "b"])})

    assert leaks.repeated == {"train": 2}
    assert leaks.exact == leaks.near == []


def test_one_text_with_two_labels_is_named(make_documents):
    train = make_documents(["a", "b", "a"], ["x", "x", "x"], name="train")
    test = make_documents(["c", "A"], ["x", "y"], name="test")

    assert find_leaks({"train": train, "test": test}).conflicts == [["train row 1 (x)", "test row 2 (y)"]]


def test_at_most_five_examples_are_kept(make_documents):
    texts = texts_of(0, 9)

    leaks = find_leaks({"train": make_documents(texts), "test": make_documents(texts)})

    assert leaks.exact[0]["count"] == 9
    assert leaks.exact[0]["examples"] == [[row, row] for row in range(1, 6)]


def test_threshold_is_checked(splits):
    with pytest.raises(ArgumentError, match="threshold must lie"):
        find_leaks(splits, threshold=0.3)
