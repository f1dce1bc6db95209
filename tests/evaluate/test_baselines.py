import sys
import warnings

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError, MissingDependencyError
from regard.data import load_reuters_r8
from regard.evaluate import baselines, linear_baseline, majority_baseline

WORDS = {0: "profit dividend quarter shares", 1: "merger takeover bid offer", 2: "oil barrel crude opec"}


def _texts(num_rows, seed, classes=(0, 1, 2)):
    generator = np.random.default_rng(seed)
    labels = generator.choice(classes, num_rows)
    labels[: len(classes)] = classes
    common = np.array(["the", "company", "said", "today", "market", "new"])
    return [" ".join([*generator.choice(WORDS[k].split(), 3), *generator.choice(common, 6)]) for k in labels], labels


@pytest.fixture(scope="module")
def splits():
    return [*_texts(120, 0), *_texts(40, 1), _texts(60, 2)[0]]


def test_majority_names_the_most_common_class_with_its_share():
    predictions = majority_baseline([1, 1, 0, 1], 3, ["a", "b"])
    assert predictions.predicted.tolist() == [1, 1, 1]
    assert predictions.scores.tolist() == [[0.25, 0.75]] * 3
    assert predictions.details == {"label": "b", "share_of_train": 0.75}


def test_majority_refuses_nothing_to_learn_or_answer():
    with pytest.raises(DataError, match="train classes must hold at least one row"):
        majority_baseline([], 3, ["a", "b"])
    with pytest.raises(ArgumentError, match="at least one row, got num_rows=0"):
        majority_baseline([0, 1], 0, ["a", "b"])


def test_linear_learns_words(splits):
    calls = []
    predictions = linear_baseline(*splits, seed=0, progress=lambda done, total: calls.append((done, total)))
    assert (predictions.predicted == _texts(60, 2)[1]).mean() > 0.95
    assert predictions.scores.shape == (60, 3)
    total = predictions.details["num_candidates"]
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert predictions.details["num_not_converged"] == 0


def test_linear_gives_the_same_answers_twice(splits):
    first, again = (linear_baseline(*splits, seed=0) for _ in range(2))
    np.testing.assert_array_equal(first.scores, again.scores)


def test_test_texts_play_no_part_in_choosing(splits):
    alone = linear_baseline(*splits, seed=0)
    other = linear_baseline(*splits[:4], ["entirely other words", *splits[4]], seed=0)
    np.testing.assert_array_equal(other.scores[1:], alone.scores)


def test_two_classes_have_two_columns(monkeypatch):
    monkeypatch.setattr(baselines, "_STRENGTHS", {"LinearSVC": (1.0,)})
    texts, labels = _texts(60, 0, classes=(0, 1))
    predictions = linear_baseline(texts, labels, texts, labels, texts, seed=0)
    assert (predictions.scores.shape, predictions.are_probabilities) == ((60, 2), False)
    np.testing.assert_array_equal(predictions.scores[:, 0], -predictions.scores[:, 1])
    np.testing.assert_array_equal(predictions.predicted, labels)


def test_logistic_regression_gives_probabilities(monkeypatch, splits):
    monkeypatch.setattr(baselines, "_STRENGTHS", {"LogisticRegression": (10.0,)})
    predictions = linear_baseline(*splits, seed=0)
    assert predictions.are_probabilities
    np.testing.assert_allclose(predictions.scores.sum(axis=1), 1)


def test_candidates_that_did_not_converge_are_counted_and_said(monkeypatch, splits):
    monkeypatch.setattr(baselines, "_MAX_ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        details = linear_baseline(*splits, seed=0).details
    assert details["num_not_converged"] == details["num_candidates"]
    assert details["converged"] is False


def test_other_warnings_are_passed_on(monkeypatch, splits):
    from sklearn.svm import LinearSVC

    fit = LinearSVC.fit

    def warn_and_fit(self, *args):
        warnings.warn("something else is odd", UserWarning, stacklevel=2)
        return fit(self, *args)

    monkeypatch.setattr(LinearSVC, "fit", warn_and_fit)
    with pytest.warns(UserWarning, match="something else is odd"):
        assert linear_baseline(*splits, seed=0).details["num_not_converged"] == 0


def test_solvers_run_on_one_thread_and_leave_the_others_as_they_were(monkeypatch, splits):
    from sklearn.svm import LinearSVC
    from threadpoolctl import threadpool_info

    fit, before, during = LinearSVC.fit, threadpool_info(), []

    def look_and_fit(self, *args):
        during.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(self, *args)

    monkeypatch.setattr(LinearSVC, "fit", look_and_fit)
    linear_baseline(*splits, seed=0)
    assert set(during) == {1}
    assert threadpool_info() == before


@pytest.mark.data
def test_linear_reaches_the_published_accuracy_on_reuters_r8(monkeypatch):
    monkeypatch.setattr(baselines, "_STRENGTHS", {"LinearSVC": (1.0,)})  # the whole grid takes a quarter of a minute
    train, test = load_reuters_r8()
    names = sorted(set(train.labels))
    train_targets, test_targets = ([names.index(label) for label in split.labels] for split in (train, test))
    rest, held_out = (np.arange(len(train)) % 10 != 0).nonzero()[0], range(0, len(train), 10)
    predictions = linear_baseline(
        [train.texts[i] for i in rest],
        [train_targets[i] for i in rest],
        [train.texts[i] for i in held_out],
        [train_targets[i] for i in held_out],
        test.texts,
        seed=0,
    )
    assert (predictions.predicted == test_targets).mean() >= 0.970


def test_one_text_per_class_is_enough():
    texts = ["profit rose", "merger bid"]
    assert linear_baseline(texts, [0, 1], texts, [0, 1], texts, seed=0).predicted.tolist() == [0, 1]


def test_broken_input_is_refused_in_one_sentence(splits):
    train, labels, validation, validation_labels, test = splits
    with pytest.raises(DataError, match="one label, got 119 texts and 120 labels"):
        linear_baseline(train[1:], labels, validation, validation_labels, test, seed=0)
    with pytest.raises(DataError, match="got none of class 1"):
        linear_baseline(train, np.where(labels == 1, 0, labels), validation, validation_labels, test, seed=0)
    with pytest.raises(DataError, match="two or more classes"):
        linear_baseline(train, labels * 0, validation, validation_labels * 0, test, seed=0)
    with pytest.raises(DataError, match="validation classes must lie between 0 and 2, got 7"):
        linear_baseline(train, labels, validation, validation_labels * 0 + 7, test, seed=0)
    with pytest.raises(DataError, match="at least one test text"):
        linear_baseline(train, labels, validation, validation_labels, [], seed=0)
    with pytest.raises(DataError, match="words of two or more letters"):
        linear_baseline(["a", "b"], [0, 1], ["a"], [0], ["a"], seed=0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch, splits):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'regard\[train\]'"):
        linear_baseline(*splits, seed=0)
