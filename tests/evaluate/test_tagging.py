"""Figures of taggers, against counting by hand, scikit-learn, and the examples that seqeval documents."""

import random

import numpy as np
import pytest

from regard._errors import DataError
from regard.evaluate import MAJORITY_TAG, WORD_TAGS, Tagged, WordTags, row_values, score_taggers, tag_figures, tag_sums


def model(tags, name="ours", kind="model"):
    return Tagged(name=name, kind=kind, tags=tags)


def value(content, name, index=0):
    return content["models"][index]["metrics"][name]["value"]


def draw(num_sentences, tags, seed=0):
    chooser = random.Random(seed)
    return [[chooser.choice(tags) for _ in range(chooser.randint(1, 9))] for _ in range(num_sentences)]


def test_figures_of_seqevals_readme():
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    given = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]

    content = score_taggers(true, [model(given)])

    assert value(content, "accuracy") == 0.8
    assert [value(content, f"span_{name}") for name in ("precision", "recall", "f1")] == [0.5, 0.5, 0.5]
    assert content["per_span"] == [
        {"label": "MISC", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        {"label": "PER", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1},
    ]


def test_a_wrongly_begun_span_is_a_span_as_in_seqevals_default_mode():
    assert tag_figures([["B-NP", "I-NP", "O"]], [["I-NP", "I-NP", "O"]])["span_f1"] == 1.0


def test_accuracy_and_macro_f1_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    true, given = draw(80, "abcd"), None
    chooser = random.Random(1)
    given = [[tag if chooser.random() < 0.6 else chooser.choice("abcd") for tag in tags] for tags in true]
    flat = [[tag for tags in side for tag in tags] for side in (true, given)]

    content = score_taggers(true, [model(given)])

    assert value(content, "accuracy") == pytest.approx(metrics.accuracy_score(*flat), abs=1e-12)
    assert value(content, "macro_f1") == pytest.approx(metrics.f1_score(*flat, average="macro"), abs=1e-12)
    assert content["confusion"] == metrics.confusion_matrix(*flat).tolist()
    assert content["metric_order"] == ["accuracy", "macro_f1"]
    assert "per_span" not in content


def test_intervals_are_those_of_drawn_sentences():
    """The percentile interval again, by drawing sentences and scoring the drawn ones from scratch."""
    true = draw(40, ["O", "B-X", "I-X", "B-Y"])
    chooser = random.Random(2)
    given = [[tag if chooser.random() < 0.7 else "O" for tag in tags] for tags in true]
    content = score_taggers(true, [model(given)])

    generator, drawn = np.random.default_rng(0), []
    for _ in range(150):
        rows = generator.integers(40, size=40)
        drawn.append(tag_figures([true[row] for row in rows], [given[row] for row in rows]))
    for name in ("accuracy", "macro_f1", "span_f1"):
        interval = content["models"][0]["metrics"][name]
        low, high = np.quantile([figures[name] for figures in drawn], [0.025, 0.975])
        assert abs(interval["low"] - low) < 0.03
        assert abs(interval["high"] - high) < 0.03


def test_who_names_no_span_has_found_none():
    figures = score_taggers([["B-X", "O"]] * 3, [model([["O", "O"]] * 3)])

    assert [value(figures, f"span_{name}") for name in ("precision", "recall", "f1")] == [0.0, 0.0, 0.0]


def test_a_tag_that_the_split_does_not_have_costs_accuracy_and_is_shown():
    content = score_taggers([["a", "b"]], [model([["a", "c"]])])

    assert value(content, "accuracy") == 0.5
    assert value(content, "macro_f1") == 0.5  # of a: 1, of b: 0
    assert content["labels"] == ["a", "b", "c"]


def test_rows_are_sentences():
    true, given = [["a", "b"], ["a"]], [["a", "a"], ["a"]]
    right, words = tag_sums(true, given)

    assert (right.tolist(), words.tolist()) == ([1, 1], [2, 1])
    assert row_values("accuracy", {"ours": tag_sums(true, given)})["models"]["ours"]["counts"] == [2, 1]


@pytest.mark.parametrize("tags", [[["a"]], [["a"], ["a", "b", "c"]]])
def test_answers_that_do_not_fit_are_refused(tags):
    with pytest.raises(DataError, match="'ours' must give one tag for each of 3 words of 2 sentences"):
        score_taggers([["a", "b"], ["a"]], [model(tags)])
    with pytest.raises(DataError, match="at least one sentence"):
        score_taggers([], [model([])])


def test_most_frequent_tags_of_words():
    words = [["the", "bank", "the", "bank", "bank"], ["the", "left", "once"]]
    tags = [["D", "N", "D", "V", "N"], ["D", "A", "A"]]
    known = WordTags(words, tags)

    assert known.tag([["bank", "the", "unseen"], ["left"]]) == [["N", "D", "A"], ["A"]]
    assert (known.majority, known.unknown, len(known)) == ("D", "A", 4)


def test_unknown_words_get_the_majority_where_no_word_is_rare():
    assert WordTags([["a", "a", "b", "b"]], [["X", "X", "Y", "X"]]).unknown == "X"


def test_baselines_have_names_of_their_own():
    assert WORD_TAGS != MAJORITY_TAG
    with pytest.raises(DataError, match="where there are words, got none"):
        WordTags([], [])
