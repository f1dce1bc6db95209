import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard._errors import ArgumentError
from regard.data import near_duplicates

VOCABULARY = [f"word{number}" for number in range(500)]


def random_texts(count, *, words=40, seed=0):
    generator = random.Random(seed)
    return [" ".join(generator.choices(VOCABULARY, k=words)) for _ in range(count)]


def edited(text, *, places, seed=0):
    words = text.split()
    for place in random.Random(seed).sample(range(len(words)), places):
        words[place] = "edited"
    return " ".join(words)


def shingles(text):
    words = text.split()
    words += [""] * (5 - len(words))
    return {tuple(words[first : first + 5]) for first in range(len(words) - 4)}


def jaccard(one, other):
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def every_pair(texts, threshold):
    pairs = ((left, right) for right in range(len(texts)) for left in range(right))
    return {pair for pair in pairs if jaccard(texts[pair[0]], texts[pair[1]]) >= threshold}


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9, 1.0])
def test_found_pairs_are_those_of_the_exhaustive_comparison(threshold):
    texts = random_texts(15, words=120)
    texts += [edited(text, places=places, seed=seed) for seed, text in enumerate(texts) for places in (0, 1, 2, 3, 5)]

    found = near_duplicates(texts, threshold=threshold)

    assert set(map(tuple, found.pairs.tolist())) == every_pair(texts, threshold)
    assert found.num_unchecked == 0


def test_reported_similarity_is_exact():
    texts = [*random_texts(1), edited(random_texts(1)[0], places=1)]

    found = near_duplicates(texts, threshold=0.7)

    assert found.pairs.tolist() == [[0, 1]]
    assert found.jaccard.tolist() == [jaccard(*texts)]


@given(texts=st.lists(st.text(alphabet="ab \n", max_size=24), max_size=12))
def test_short_and_empty_texts_match_as_the_definition_says(texts):
    found = near_duplicates(texts)

    worded = [index for index, text in enumerate(texts) if text.split()]
    pairs = every_pair([texts[index] for index in worded], 0.8)
    assert set(map(tuple, found.pairs.tolist())) == {(worded[left], worded[right]) for left, right in pairs}


def test_case_spaces_and_punctuation_do_not_count():
    text = random_texts(1)[0]

    assert near_duplicates([text, text.upper().replace(" ", ",  ") + "!"], threshold=1.0).pairs.tolist() == [[0, 1]]


def test_script_without_spaces_is_compared_by_characters():
    text = "".join(random.Random(0).choices([chr(0x4E00 + number) for number in range(300)], k=80))

    assert near_duplicates([text, text[:-4], text[::-1]]).pairs.tolist() == [[0, 1]]


def test_unlike_texts_give_nothing():
    assert near_duplicates(random_texts(300)).pairs.shape == (0, 2)


@pytest.mark.parametrize("texts", [[], ["a b c"], ["", "..."]])
def test_fewer_than_two_texts_with_words_give_nothing(texts):
    assert near_duplicates(texts).pairs.shape == (0, 2)


def test_templates_are_found_and_what_was_not_compared_is_counted():
    template = random_texts(1, words=200)[0]

    found = near_duplicates([f"{template} {number}" for number in range(150)])

    assert found.num_unchecked > 0
    assert set(found.pairs.ravel().tolist()) == set(range(150))


def test_answer_is_the_same_in_another_process():
    texts = [*random_texts(30), *(edited(text, places=1) for text in random_texts(30))]
    code = f"from regard.data import near_duplicates; print(near_duplicates({texts!r}).pairs.tolist())"

    printed = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]

    assert printed[0] == printed[1] == f"{near_duplicates(texts).pairs.tolist()}\n"


@pytest.mark.parametrize("threshold", [0.5, 1.1])
def test_threshold_that_the_bands_cannot_serve_is_refused(threshold):
    with pytest.raises(ArgumentError, match=r"threshold must lie in \[0.7, 1\]"):
        near_duplicates(["a"], threshold=threshold)


@pytest.mark.data
def test_reuters_pairs_are_those_of_the_exhaustive_comparison(reuters):
    sparse = pytest.importorskip("scipy.sparse", reason="needs scipy, which scikit-learn of regard[train] brings")
    texts = list(dict.fromkeys([*reuters[0].texts, *reuters[1].texts]))
    numbers = {}
    cells = [(row, numbers.setdefault(item, len(numbers))) for row, text in enumerate(texts) for item in shingles(text)]
    rows, columns = np.array(cells).T
    table = sparse.csr_matrix((np.ones(len(cells), np.int32), (rows, columns)))
    sizes = np.asarray(table.sum(axis=1)).ravel()
    shared = sparse.triu(table @ table.T, 1).tocoo()
    close = shared.data / (sizes[shared.row] + sizes[shared.col] - shared.data) >= 0.8
    expected = set(zip(shared.row[close].tolist(), shared.col[close].tolist(), strict=True))

    assert len(expected) > 30
    assert set(map(tuple, near_duplicates(texts).pairs.tolist())) == expected
