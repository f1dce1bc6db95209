from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard._errors import ArgumentError, DataError
from regard.data import normalized, require_known_labels, split_documents, stratified_split

SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32)


@st.composite
def grouped_rows(draw):
    """Rows whose label is a function of their group, so that texts never disagree about their label."""
    groups = draw(st.lists(st.integers(0, 12), min_size=1, max_size=60))
    label_of = draw(st.lists(st.sampled_from("abc"), min_size=13, max_size=13))
    return [label_of[group] for group in groups], groups


@given(rows=grouped_rows(), share=SHARES, seed=SEEDS)
def test_every_row_is_on_one_side_and_every_divisible_label_on_both(rows, share, seed):
    labels, groups = rows
    train, held = stratified_split(labels, share=share, seed=seed, groups=groups, singletons="train")

    assert sorted([*train, *held]) == list(range(len(labels)))
    assert not {groups[row] for row in train} & {groups[row] for row in held}
    for label in set(labels):
        divisible = len({group for group, name in zip(groups, labels, strict=True) if name == label}) > 1
        assert label in {labels[row] for row in train}
        assert (label in {labels[row] for row in held}) == divisible


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    groups=st.lists(st.integers(0, 8), min_size=40, max_size=40),
    share=SHARES,
    seed=SEEDS,
)
def test_texts_that_disagree_about_their_label_never_break_the_split(labels, groups, share, seed):
    groups = groups[: len(labels)]
    try:
        train, held = stratified_split(labels, share=share, seed=seed, groups=groups, singletons="train")
    except DataError as error:
        assert "give identical texts one label" in str(error)  # noqa: PT017 - either outcome is lawful
        return

    assert sorted([*train, *held]) == list(range(len(labels)))
    assert not {groups[row] for row in train} & {groups[row] for row in held}
    assert set(labels) == {labels[row] for row in train}


@given(labels=st.lists(st.sampled_from("abc"), min_size=1), share=SHARES, seed=SEEDS)
def test_same_seed_gives_the_same_split(labels, share, seed):
    one = stratified_split(labels, share=share, seed=seed, singletons="train")
    other = stratified_split(labels, share=share, seed=seed, singletons="train")

    assert all(np.array_equal(first, second) for first, second in zip(one, other, strict=True))


def test_another_seed_gives_another_split():
    labels = ["a", "b"] * 50

    assert (
        stratified_split(labels, share=0.2, seed=0)[1].tolist()
        != stratified_split(labels, share=0.2, seed=1)[1].tolist()
    )


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_each_label_gives_its_share(share):
    labels = ["a"] * 200 + ["b"] * 40 + ["c"] * 20

    _, held = stratified_split(labels, share=share, seed=3)

    assert Counter(labels[row] for row in held) == {"a": 200 * share, "b": 40 * share, "c": 20 * share}


def test_row_indices_ascend():
    train, held = stratified_split(["a", "b"] * 50, share=0.2, seed=0)

    assert train.tolist() == sorted(train)
    assert held.tolist() == sorted(held)


def test_label_seen_once_is_named_with_its_row(make_documents):
    documents = make_documents("abcde", ["x", "x", "fuel", "y", "x"], name="mine.csv")

    message = r"got 'fuel' seen once, at mine.csv row 3 \(and so are 'y'\); merge it .*singletons='train'"
    with pytest.raises(DataError, match=message):
        split_documents(documents, share=0.5, seed=0)


def test_label_of_one_text_repeated_is_as_good_as_seen_once(make_documents):
    documents = make_documents(["a", "b", "c", "C "], ["x", "x", "fuel", "fuel"])

    with pytest.raises(DataError, match="got 'fuel' seen in one text only, 2 times, at made row 3"):
        split_documents(documents, share=0.5, seed=0)


def test_label_seen_once_is_trained_on_when_said(make_documents):
    documents = make_documents("abc", ["x", "x", "fuel"])

    train, held = split_documents(documents, share=0.5, seed=0, singletons="train")

    assert "fuel" in train.labels
    assert held.labels == ["x"]


def test_identical_texts_stay_together(make_documents):
    texts = [f"text {number // 4}" + " " * (number % 4) for number in range(80)]

    train, held = split_documents(make_documents(texts), share=0.3, seed=5)

    assert not {normalized(text) for text in train.texts} & {normalized(text) for text in held.texts}
    assert len(held) == 24


def test_label_that_rarer_labels_decide_for_is_refused():
    # Both texts of z also have a label that no other text has, and so belong to training.
    labels, groups = ["z", "p", "z", "q"], [0, 0, 1, 1]

    with pytest.raises(DataError, match=r"The label 'z' must be on both sides .* give identical texts one label"):
        stratified_split(labels, share=0.5, seed=0, groups=groups, singletons="train")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5])
def test_share_outside_its_range_is_refused(share):
    with pytest.raises(ArgumentError, match="share must lie between 0 and 1"):
        stratified_split(["a", "a"], share=share, seed=0)


def test_unknown_treatment_of_singletons_is_refused():
    with pytest.raises(ArgumentError, match="singletons must be 'error' or 'train', got 'drop'"):
        stratified_split(["a", "a"], share=0.5, seed=0, singletons="drop")


def test_groups_of_another_length_are_refused():
    with pytest.raises(ArgumentError, match="one key per row, got 1 for 2 rows"):
        stratified_split(["a", "a"], share=0.5, seed=0, groups=[1])


def test_label_absent_from_training_is_named(make_documents):
    train = make_documents("ab", ["x", "y"])
    test = make_documents("cde", ["x", "z", "z"], name="test.csv")

    with pytest.raises(
        DataError, match=r"test.csv must be seen in training, got 'z' only there \(first at test.csv row 2\)"
    ):
        require_known_labels(train, test)
    require_known_labels(test.take([0]), train.take([0]))


@pytest.mark.data
def test_reuters_splits_without_a_shared_text(reuters):
    train, held = split_documents(reuters[0], share=0.1, seed=0)

    assert len(train) + len(held) == 5485
    assert abs(len(held) - 548.5) < 8
    assert train.label_counts().keys() == held.label_counts().keys()
    assert not set(map(normalized, train.texts)) & set(map(normalized, held.texts))
