import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.data import PairBatches, pair_padding_share

RNG = np.random.default_rng(3)
TARGET = RNG.integers(3, 40, 2000)
SOURCE = np.maximum(1, TARGET + RNG.integers(-5, 6, 2000))


def batches(**changes):
    return PairBatches(SOURCE.tolist(), TARGET.tolist(), **{"tokens_per_batch": 600, "seed": 0, **changes})


def test_every_pair_comes_once_in_each_epoch():
    for epoch in (0, 1):
        assert sorted(index for batch in batches().batches(epoch) for index in batch) == list(range(2000))


def test_neither_side_of_a_batch_is_larger_than_asked():
    for batch in batches().batches(0):
        assert len(batch) * max(SOURCE[batch].max(), TARGET[batch].max()) <= 600


def test_batches_are_as_full_as_the_next_pair_allows():
    found = batches()
    assert len(found) <= 1.25 * max(SOURCE.sum(), TARGET.sum()) / 600


def test_epochs_have_one_number_of_batches_and_differ():
    found = batches()
    first, second = found.batches(0), found.batches(1)

    assert len(first) == len(second) == len(found)
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
    assert first == batches().batches(0) != batches(seed=1).batches(0)


def test_little_is_padding():
    share = pair_padding_share(batches().batches(0), SOURCE.tolist(), TARGET.tolist())
    shuffled = RNG.permutation(2000).reshape(-1, 20).tolist()

    assert share < 0.1 < 0.3 < pair_padding_share(shuffled, SOURCE.tolist(), TARGET.tolist())


@pytest.mark.parametrize(
    ("source", "target", "tokens", "message"),
    [
        ([3, 4], [3], 10, "one length per pair, got 2 of sources and 1 of targets"),
        ([3, 0], [3, 3], 10, "source_lengths must hold a length of at least 1 per pair, got 0"),
        ([], [], 10, "source_lengths must hold a length of at least 1 per pair, got no pair"),
        ([3, 11], [3, 3], 10, "must hold the longest pair, got 10 for 11 tokens"),
    ],
)
def test_what_cannot_be_is_refused(source, target, tokens, message):
    with pytest.raises(ArgumentError, match=message):
        PairBatches(source, target, tokens_per_batch=tokens)
