import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import Lexicon


def model_1(source, target, iterations):
    """Brown et al. 1993, word for word, in dictionaries."""
    chances = {}
    for _ in range(iterations):
        counts = {}
        for a, b in zip(source, target, strict=True):
            words = ["", *a.split()]
            for f in b.split():
                total = sum(chances.get((e, f), 1.0) for e in words)
                for e in words:
                    counts[e, f] = counts.get((e, f), 0.0) + chances.get((e, f), 1.0) / total
        totals = {}
        for (e, _), count in counts.items():
            totals[e] = totals.get(e, 0.0) + count
        chances = {(e, f): count / totals[e] for (e, f), count in counts.items()}
    return chances


def made(seed=0, size=200):
    """Sentences in two languages that have the words of each other in another order, and now and then one more."""
    generator = np.random.default_rng(seed)
    words = [generator.integers(0, 30, generator.integers(2, 7)) for _ in range(size)]
    source = [" ".join(f"s{word}" for word in line) for line in words]
    target = [
        " ".join([*(f"t{word}" for word in generator.permutation(line)), *["und"] * (n % 3 == 0)])
        for n, line in enumerate(words)
    ]
    return source, target


def test_it_is_model_1():
    source, target = made()
    expected = model_1(source, target, 6)

    lexicon = Lexicon(source, target, iterations=6)

    for word in range(30):
        (best,) = lexicon.translate([f"s{word}"])
        others = {f: chance for (e, f), chance in expected.items() if e == f"s{word}"}
        assert others[best] == pytest.approx(max(others.values()), rel=1e-9)


def test_it_finds_the_language():
    source, target = made()

    assert Lexicon(source, target).translate(["s3 s1 s29"]) == ["t3 t1 t29"]
    assert len(Lexicon(source, target)) == 30


def test_punctuation_is_a_word_and_stands_at_one():
    source = ["a dog.", "a cat, a dog.", "a cat", "a dog", "dog, cat", "cat.", "the dog", "the cat."]
    target = [
        "ein Hund.",
        "ein Kater, ein Hund.",
        "ein Kater",
        "ein Hund",
        "Hund, Kater",
        "Kater.",
        "der Hund",
        "der Kater.",
    ]
    lexicon = Lexicon(source, target)

    assert lexicon.translate(["a cat, a dog.", "Unseen, a dog"]) == ["ein Kater, ein Hund.", "Unseen, ein Hund"]
    assert lexicon.translate([""]) == [""]


def test_pairs_without_words_on_both_sides_teach_nothing():
    assert Lexicon(["a", "b", " "], ["x", "", "y"]).translate(["a b"]) == ["x b"]


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="got 2 sources, 1 targets and 8 iterations"):
        Lexicon(["a", "b"], ["x"])
    with pytest.raises(ArgumentError, match="and 0 iterations"):
        Lexicon(["a"], ["x"], iterations=0)
    with pytest.raises(DataError, match="a word on both sides, got none"):
        Lexicon(["a"], [" "])
