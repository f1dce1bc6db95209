"""N-grams against counting by hand, one token at a time."""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import NGram

RNG = np.random.default_rng(3)
TEXT = RNG.choice(6, 400, p=[0.4, 0.25, 0.2, 0.1, 0.05, 0.0]).tolist()
HELD_OUT = RNG.integers(6, size=60).tolist()


def by_hand(text: list[int], history: list[int], token: int, vocab_size: int) -> float:
    """Return Witten and Bell's probability by the recursion of the paper, over tuples."""
    if not history and not text:
        return 1 / vocab_size
    followers = Counter(
        text[at + len(history)] for at in range(len(text) - len(history)) if text[at : at + len(history)] == history
    )
    shorter = by_hand(text, history[1:], token, vocab_size) if history else 1 / vocab_size
    if not followers:
        return shorter
    kinds = len(followers)
    return (followers[token] + kinds * shorter) / (followers.total() + kinds)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_it_equals_the_recursion_of_the_paper(order: int) -> None:
    found = NGram(TEXT, vocab_size=6, order=order).nats(HELD_OUT)
    expected = [
        -math.log(by_hand(TEXT, HELD_OUT[max(0, at - order + 1) : at], token, 6)) for at, token in enumerate(HELD_OUT)
    ]
    assert found == pytest.approx(np.array(expected), rel=1e-12)


def test_chances_of_all_tokens_sum_to_one() -> None:
    model = NGram(TEXT, vocab_size=6, order=3)
    for history in ([0, 1], [5, 5], [4, 0]):
        assert sum(math.exp(-model.nats([*history, token])[-1]) for token in range(6)) == pytest.approx(1)


def test_a_lower_order_is_the_model_of_that_order() -> None:
    whole = NGram(TEXT, vocab_size=6, order=4)
    assert whole.nats(HELD_OUT, order=2) == pytest.approx(NGram(TEXT, vocab_size=6, order=2).nats(HELD_OUT))


def test_a_text_that_repeats_itself_is_soon_no_surprise() -> None:
    model = NGram([0, 1, 2] * 50, vocab_size=3, order=3)
    assert model.nats([0, 1, 2] * 5)[2:].max() < 0.05


@pytest.mark.parametrize("vocab_size", [2_000, 8_000, 50_000])
def test_memory_follows_the_text_and_not_the_vocabulary(vocab_size: int) -> None:
    text = np.minimum(RNG.zipf(1.3, 40_000), vocab_size) - 1
    held_out = np.minimum(RNG.zipf(1.3, 5_000), vocab_size) - 1
    tracemalloc.start()
    model = NGram(text, vocab_size=vocab_size, order=5)
    nats = model.nats(held_out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Each order keeps two numbers a context and two a pair, at most one of each a token, and sorts copies of both.
    assert peak < (4 * 5 + 12) * text.nbytes
    assert np.isfinite(nats).all()
    assert nats.mean() < math.log(vocab_size)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(ArgumentError, match="order must be at least 1, got 0"):
        NGram([0, 1], vocab_size=2, order=0)
    with pytest.raises(DataError, match="3-grams needs as many tokens, got a text of 2"):
        NGram([0, 1], vocab_size=2, order=3)
    with pytest.raises(ArgumentError, match=r"in \[0, 2\), got 0 to 2"):
        NGram([0, 1, 2], vocab_size=2, order=1)
    with pytest.raises(DataError, match="one or more, got an array of shape"):
        NGram([0, 1], vocab_size=2, order=1).nats([])
