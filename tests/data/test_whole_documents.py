"""Whole documents are held out, and what is held out is nowhere else."""

import pytest

from regard._errors import ArgumentError, DataError
from regard.data import (
    ParallelTexts,
    document_names,
    hold_out_documents,
    name_documents,
    with_contexts,
    without_sources_of,
)


def pairs(sizes, *, reference="{name} {number}"):
    """Pairs of documents of the given sizes, each text its own."""
    rows = [(name, number) for name, size in sizes.items() for number in range(size)]
    return ParallelTexts(
        source=[f"{name} says {number}" for name, number in rows],
        target=[f"{name} dice {number}" for name, number in rows],
        name="book",
        rows=list(range(1, len(rows) + 1)),
        documents=[reference.format(name=name, number=number) for name, number in rows],
    )


def named(sizes):
    return name_documents(pairs(sizes), r"(\w+) \d+")


def test_a_document_is_on_one_side_with_all_its_pairs():
    book = named({"a": 10, "b": 20, "c": 30, "d": 40})

    parts = hold_out_documents(book, share=0.35, seed=3)

    assert set(parts.names) == set(parts.held.documents)
    assert not set(parts.held.documents) & set(parts.rest.documents)
    assert len(parts.held) + len(parts.rest) == 100
    assert 0 < len(parts.held) <= 35


@pytest.mark.parametrize("seed", range(5))
def test_the_share_is_never_exceeded_where_a_document_fits(seed):
    parts = hold_out_documents(named(dict.fromkeys("abcdefgh", 5) | {"z": 60}), share=0.2, seed=seed)

    assert len(parts.held) == 20


def test_a_document_longer_than_the_share_is_taken_when_there_is_no_other():
    assert hold_out_documents(named({"a": 5, "b": 6}), share=0.1, seed=0).names == ["a"]


def test_documents_can_be_named():
    parts = hold_out_documents(named({"a": 2, "b": 2, "c": 2}), share=0.1, seed=0, names=["c", "a"])

    assert parts.names == ["a", "c"]
    assert parts.held.rows == [1, 2, 5, 6]


def test_the_same_seed_draws_the_same_documents_and_another_one_others():
    book = named(dict.fromkeys("abcdefghijklmnop", 3))
    drawn = [hold_out_documents(book, share=0.3, seed=seed).names for seed in (0, 0, 1)]

    assert drawn[0] == drawn[1] != drawn[2]


def test_a_context_is_what_stood_before_in_the_same_document():
    book = with_contexts(named({"a": 3, "b": 2}), 2)

    assert book.contexts == [(), ("a says 0",), ("a says 1", "a says 0"), (), ("b says 0",)]


def test_a_context_stays_with_its_pair():
    assert with_contexts(named({"a": 3}), 1).take([2]).contexts == [("a says 1",)]


def test_sources_that_are_held_out_are_left_out_of_the_rest_whatever_their_case():
    book = named({"a": 3, "b": 2})
    quoted = ParallelTexts(source=["A SAYS  1"], target=["x"], name="q", rows=[9])

    kept, left = without_sources_of(book, [quoted])

    assert kept.rows == [1, 3, 4, 5]
    assert left == ["book line 2"]


def test_a_pattern_that_does_not_fit_says_where():
    with pytest.raises(DataError, match=r"must fit .* got 'b 0' at book line 3"):
        name_documents(pairs({"a": 2, "b": 2}), r"(a) \d+")


@pytest.mark.parametrize(("pattern", "message"), [("(", "must be a regular expression"), ("a", "must have a group")])
def test_a_pattern_must_be_one(pattern, message):
    with pytest.raises(ArgumentError, match=message):
        name_documents(pairs({"a": 1}), pattern)


def test_wrong_requests_are_refused():
    book = named({"a": 2, "b": 2})
    with pytest.raises(DataError, match="got 'c'; name one of them"):
        hold_out_documents(book, share=0.5, seed=0, names=["c"])
    with pytest.raises(DataError, match="left to train on, got all 2"):
        hold_out_documents(book, share=0.5, seed=0, names=["a", "b"])
    with pytest.raises(DataError, match="needs two or more, got 'a'"):
        hold_out_documents(named({"a": 2}), share=0.5, seed=0)
    with pytest.raises(ArgumentError, match="must name their documents"):
        document_names(ParallelTexts(source=["a"], target=["b"], name="plain", rows=[1]))
    with pytest.raises(DataError, match="left to train on, got none"):
        without_sources_of(book, [book])
