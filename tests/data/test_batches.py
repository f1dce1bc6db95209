import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard._errors import ArgumentError
from regard.data import LengthGroupedBatches, load_tokenizer, padding_share, sorted_batches

LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=200)
SIZES = st.one_of(
    st.fixed_dictionaries({"batch_size": st.integers(1, 50)}),
    st.fixed_dictionaries({"tokens_per_batch": st.integers(64, 500)}),
)


def skewed_lengths(count=4000, seed=0):
    drawn = np.random.default_rng(seed).lognormal(4, 0.8, size=count)
    return np.clip(drawn, 2, 256).astype(int).tolist()


@given(lengths=LENGTHS, size=SIZES, seed=st.integers(0, 2**32), epoch=st.integers(0, 99), chunk=st.integers(1, 9))
def test_an_epoch_has_every_document_once_and_repeats_exactly(lengths, size, seed, epoch, chunk):
    first = LengthGroupedBatches(lengths, **size, seed=seed, batches_per_chunk=chunk)
    again = LengthGroupedBatches(lengths, **size, seed=seed, batches_per_chunk=chunk)

    batches = first.batches(epoch)

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert batches == again.batches(epoch)


@given(lengths=LENGTHS, budget=st.integers(64, 500), seed=st.integers(0, 9))
def test_no_batch_exceeds_the_token_budget(lengths, budget, seed):
    batches = LengthGroupedBatches(lengths, tokens_per_batch=budget, seed=seed).batches(0)

    assert all(len(batch) * max(lengths[index] for index in batch) <= budget for batch in batches)


@given(lengths=LENGTHS, size=st.integers(1, 50))
def test_number_of_batches_is_the_least_whatever_the_epoch(lengths, size):
    groups = LengthGroupedBatches(lengths, batch_size=size)

    assert {len(groups.batches(epoch)) for epoch in range(3)} == {-(-len(lengths) // size)}


@given(lengths=LENGTHS, size=SIZES)
def test_sorted_batches_undo_their_order(lengths, size):
    batches, inverse = sorted_batches(lengths, **size)

    outputs = np.array([index for batch in batches for index in batch])
    assert outputs[inverse].tolist() == list(range(len(lengths)))
    assert [lengths[index] for index in outputs] == sorted(lengths, reverse=True)


def test_epochs_and_seeds_differ():
    lengths = skewed_lengths(200)
    groups = LengthGroupedBatches(lengths, batch_size=8, seed=0)

    assert groups.batches(0) != groups.batches(1)
    assert groups.batches(0) != LengthGroupedBatches(lengths, batch_size=8, seed=1).batches(0)


def test_an_epoch_does_not_depend_on_those_before():
    lengths = skewed_lengths(200)
    groups = LengthGroupedBatches(lengths, batch_size=8)
    groups.batches(0)

    assert groups.batches(4) == LengthGroupedBatches(lengths, batch_size=8).batches(4)


def test_batches_do_not_come_in_order_of_length():
    lengths = skewed_lengths()
    batches = LengthGroupedBatches(lengths, batch_size=16).batches(0)

    longest = np.array([max(lengths[index] for index in batch) for batch in batches])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_company_of_a_document_changes_between_epochs():
    groups = LengthGroupedBatches(skewed_lengths(), batch_size=16)

    company = [next(set(batch) for batch in groups.batches(epoch) if 0 in batch) for epoch in (0, 1)]

    assert len(company[0] & company[1]) < 8


@pytest.mark.parametrize("size", [{"batch_size": 16}, {"tokens_per_batch": 2048}])
def test_grouping_leaves_little_padding_where_chance_leaves_half(size):
    lengths = skewed_lengths()
    shuffled = np.random.default_rng(0).permutation(len(lengths)).tolist()

    assert padding_share(LengthGroupedBatches(lengths, **size).batches(0), lengths) < 0.03
    assert padding_share([shuffled[first : first + 16] for first in range(0, len(shuffled), 16)], lengths) > 0.4


def test_padding_share_is_its_definition():
    assert padding_share([[0, 1], [2]], [1, 3, 4]) == pytest.approx(2 / 10)


BAD_SIZES = [
    ({}, "Exactly one of batch_size and tokens_per_batch must be given, got batch_size=None and"),
    ({"batch_size": 2, "tokens_per_batch": 9}, "Exactly one of"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"tokens_per_batch": 4}, "must hold the longest document, got 4 for 5 tokens; raise it or truncate"),
]


@pytest.mark.parametrize(("size", "message"), BAD_SIZES)
def test_bad_size_is_refused(size, message):
    with pytest.raises(ArgumentError, match=message):
        LengthGroupedBatches([3, 5], **size)
    with pytest.raises(ArgumentError, match=message):
        sorted_batches([3, 5], **size)


def test_chunk_without_batches_is_refused():
    with pytest.raises(ArgumentError, match="batches_per_chunk must be at least 1, got 0"):
        LengthGroupedBatches([3], batch_size=1, batches_per_chunk=0)


@pytest.mark.parametrize(("lengths", "got"), [([], "no document"), ([2, 0], "0")])
def test_bad_lengths_are_refused(lengths, got):
    with pytest.raises(ArgumentError, match=f"at least 1 per document, got {got}"):
        LengthGroupedBatches(lengths, batch_size=2)


@pytest.mark.data
def test_reuters_batches_are_almost_free_of_padding(reuters, minilm):
    encoded = load_tokenizer(minilm).encode(reuters[0].texts, max_len=256)
    lengths = [len(ids) for ids in encoded.ids]
    groups = LengthGroupedBatches(lengths, batch_size=16, seed=0)

    assert max(padding_share(groups.batches(epoch), lengths) for epoch in range(4)) < 0.03
