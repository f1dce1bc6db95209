import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.data import PROBE_TOKENS, PROBES
from regard.data.probes import adding, associative_recall, copy, needle

TOKENS = ("copy", "associative recall", "needle")


@pytest.mark.parametrize("name", PROBES)
def test_same_seed_gives_the_same_batch_and_another_does_not(name):
    one, same, other = (PROBES[name](5, distance=30, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one.inputs, same.inputs)
    np.testing.assert_array_equal(one.targets, same.targets)
    assert not np.array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_of_the_alphabet_and_answers_are_due_within_the_sequence(name):
    probe = PROBES[name](50, distance=40, seed=0)

    assert probe.inputs.min() >= 0
    assert probe.inputs.max() < PROBE_TOKENS
    assert probe.places.shape == probe.targets.shape
    assert probe.places.max() == probe.inputs.shape[1] - 1


@pytest.mark.parametrize("name", PROBES)
def test_what_is_asked_for_first_lies_as_far_back_as_it_says(name):
    probe = PROBES[name](50, distance=40, seed=0)
    back = probe.places[:, 0] - probe.sources

    assert back.min() >= 40
    if name != "associative recall":
        assert set(back) == {40}
    if name in TOKENS:
        np.testing.assert_array_equal(probe.inputs[np.arange(50), probe.sources], probe.targets[:, 0])


def test_copied_symbols_differ_and_come_again_after_the_second_mark():
    probe = copy(20, distance=25, seed=3)

    for row, symbols, places in zip(probe.inputs, probe.targets, probe.places, strict=True):
        assert len(set(symbols)) == 8
        assert row[0] == row[places[0]] == 1
        assert row[1:9].tolist() == symbols.tolist() == [*row[places[0] + 1 :].tolist(), symbols[-1]]
        assert set(row[9 : places[0]]) == {0}


def test_recalled_values_are_those_of_their_keys():
    probe = associative_recall(20, distance=25, seed=3)

    for row, values, places in zip(probe.inputs, probe.targets, probe.places, strict=True):
        pairs = dict(zip(row[:16:2].tolist(), row[1:16:2].tolist(), strict=True))
        assert len(pairs) == 8
        assert [pairs[key] for key in row[places].tolist()] == values.tolist()
        assert places.min() - 15 == 25  # the last pair's value
        assert set(row[places[0] + 1 :: 2].tolist()) == {0}  # no value is shown that would narrow down the others


def test_sums_are_of_the_two_marked_numbers():
    probe = adding(200, distance=25, seed=3)

    assert probe.is_numeric
    assert probe.inputs[:, :, 1].sum(1).tolist() == [2.0] * 200
    np.testing.assert_allclose((probe.inputs[:, :, 0] * probe.inputs[:, :, 1]).sum(1), probe.targets[:, 0], rtol=1e-6)
    assert np.square(probe.targets - 1).mean() == pytest.approx(1 / 6, abs=0.04)


def test_needle_stands_behind_the_only_early_mark():
    probe = needle(20, distance=25, seed=3)

    for row, value in zip(probe.inputs, probe.targets[:, 0], strict=True):
        marks = np.flatnonzero(row == 1)
        assert len(marks) == 2
        assert row[marks[0] + 1] == value
        assert marks[1] == len(row) - 1


@pytest.mark.parametrize(("name", "least"), [("copy", 8), ("associative recall", 16), ("adding", 1), ("needle", 1)])
def test_distances_without_room_are_refused(name, least):
    PROBES[name](1, distance=least, seed=0)
    with pytest.raises(ArgumentError, match=f"must be at least {least}, got {least - 1}"):
        PROBES[name](1, distance=least - 1, seed=0)
    with pytest.raises(ArgumentError, match="at least one row"):
        PROBES[name](0, distance=least, seed=0)
