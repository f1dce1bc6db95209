"""Groups and equal sequences stay on one side, and the audit says what stands on both."""

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import FrameSequences, audit_sequences, split_sequences


def sequences(count=40, *, groups=None, labels=True, seed=0):
    generator = np.random.default_rng(seed)
    return FrameSequences(
        frames=tuple(generator.normal(size=(generator.integers(1, 9), 2)) for _ in range(count)),
        labels=tuple("ab"[index % 2] for index in range(count)) if labels else None,
        numbers=None if labels else generator.normal(size=count),
        channels=("x", "y"),
        names=tuple(map(str, range(count))),
        rows=tuple(range(1, count + 1)),
        name="made up",
        groups=groups,
    )


def test_a_split_is_stratified_and_repeatable():
    train, held = split_sequences(sequences(), share=0.25, seed=3)

    assert sorted(train.rows + held.rows) == list(range(1, 41))
    assert [held.labels.count(label) for label in "ab"] == [5, 5]
    assert held.rows == split_sequences(sequences(), share=0.25, seed=3)[1].rows
    assert held.rows != split_sequences(sequences(), share=0.25, seed=4)[1].rows


@pytest.mark.parametrize("labels", [True, False])
def test_a_group_never_stands_on_both_sides(labels):
    groups = tuple(f"speaker {index // 5}" for index in range(40))
    for seed in range(20):
        train, held = split_sequences(sequences(groups=groups, labels=labels), share=0.25, seed=seed)
        assert not set(train.groups) & set(held.groups)
        assert 5 <= len(held) <= 15


def test_equal_sequences_stay_together():
    one = sequences(20)
    twice = one.take([*range(20), *range(20)])
    train, held = split_sequences(twice, share=0.3, seed=0)

    assert not set(train.digests()) & set(held.digests())
    assert len(held) == 12


def test_a_class_of_one_group_cannot_be_divided():
    groups = tuple("ab"[index % 2] for index in range(40))
    with pytest.raises(DataError, match="needs two different groups to be trained on and held out, got 'a'"):
        split_sequences(sequences(groups=groups), share=0.25, seed=0)
    with pytest.raises(DataError, match="needs two different groups, got one"):
        split_sequences(sequences(groups=("a",) * 40, labels=False), share=0.25, seed=0)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ArgumentError, match="groups must have one for each of 40 sequences, got 1"):
        sequences(groups=("a",))
    with pytest.raises(DataError, match="at least one sequence, got none in made up"):
        sequences(0)


def test_the_audit_counts_what_is_in_two_splits():
    train, held = split_sequences(sequences(), share=0.25, seed=0)
    test = sequences(16, seed=1)
    leaked = FrameSequences(
        frames=(*test.frames[:14], train.frames[3], train.frames[4]),
        labels=("a",) * 16,
        channels=test.channels,
        names=test.names,
        rows=test.rows,
        name="test",
    )
    audit = audit_sequences({"train": train, "validation": held, "test": leaked}, source="made up")

    by_pair = {tuple(one["splits"]): one for one in audit["leaks"]["exact"]}
    assert by_pair["train", "test"]["count"] == 2
    assert by_pair["train", "test"]["share_of_test"] == 0.125
    assert by_pair["train", "test"]["examples"] == [[train.rows[3], 15], [train.rows[4], 16]]
    assert by_pair["train", "validation"]["count"] == by_pair["validation", "test"]["count"] == 0
    assert audit["splits"]["train"]["labels"] == {"a": 15, "b": 15}
    assert sum(audit["splits"]["test"]["length"]["histogram"]["counts"]) == 16
    warned = " ".join(audit["warnings"])
    assert "Of the test sequences, 2 (12.5%) are equal to one of train" in warned
    assert "The mix of classes of test differs from that of train" in warned


def test_the_audit_tells_of_numbers():
    train, held = split_sequences(sequences(labels=False), share=0.25, seed=0)
    test = sequences(8, labels=False, seed=2)
    far = FrameSequences(
        frames=test.frames,
        numbers=train.numbers[:8] + 5,
        channels=test.channels,
        names=test.names,
        rows=test.rows,
        name="test",
    )
    audit = audit_sequences({"train": train, "validation": held, "test": far}, source="made up")

    assert audit["splits"]["train"]["numbers"]["mean"] == pytest.approx(train.numbers.mean())
    assert audit["label_shift"] == []
    assert any(line.startswith("Numbers: train") for line in audit["summary"])
    assert any("numbers of test lie" in line for line in audit["warnings"])
