"""What the model has to beat: the majority class, and a linear model on TF-IDF that got a fair chance.

A fine-tuned network that does not beat a linear model which trains in seconds is not worth its cost, and on some data
sets none does; the table always says so.

References:
    Joachims, Text categorization with support vector machines, 1998; Wang and Manning, Baselines and bigrams, 2012.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError, MissingDependencyError
from regard.evaluate.classification import accuracy, f1, macro, tally
from regard.evaluate.predictions import Predictions, checked_labels

__all__ = ["LINEAR", "MAJORITY", "linear_baseline", "majority_baseline"]

LINEAR = "TF-IDF + linear model"
MAJORITY = "majority class"

# Strengths around which both models change from under- to overfitted on documents of a sentence to a page.
_STRENGTHS = {"LinearSVC": (0.1, 0.3, 1.0, 3.0, 10.0), "LogisticRegression": (10.0, 100.0)}
_MIN_DOCUMENTS = (2, 5)
_MAX_ITERATIONS = 20_000


@dataclass(frozen=True, kw_only=True)
class _Features:
    max_words: int
    min_documents: int
    sublinear: bool


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    model: str
    strength: float
    features: _Features


@dataclass(frozen=True, kw_only=True)
class _Trial:
    candidate: _Candidate
    accuracy: float
    macro_f1: float
    converged: bool


def majority_baseline(train_labels: npt.ArrayLike, num_rows: int, labels: Sequence[str]) -> Predictions:
    """Answer every row with the most common class of the train set, as sure of it as it is common there.

    Args:
        train_labels: class of each train row, 0 to ``len(labels)`` - 1.
        num_rows: rows to answer.
        labels: name of each class.

    Raises:
        DataError: there is no train row, or a class is out of range.
        ArgumentError: there is no row to answer.
    """
    train = checked_labels(train_labels, num_classes=len(labels), what="train classes")
    if num_rows < 1:
        raise ArgumentError(f"The majority baseline must answer at least one row, got num_rows={num_rows}.")
    shares = np.bincount(train, minlength=len(labels)) / len(train)
    winner = int(shares.argmax())
    return Predictions(
        name=MAJORITY,
        kind="baseline",
        scores=np.tile(shares, (num_rows, 1)),
        predicted=np.full(num_rows, winner),
        are_probabilities=True,
        details={"label": labels[winner], "share_of_train": float(shares[winner])},
    )


def linear_baseline(
    train_texts: Sequence[str],
    train_labels: npt.ArrayLike,
    validation_texts: Sequence[str],
    validation_labels: npt.ArrayLike,
    test_texts: Sequence[str],
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Tune a linear model on TF-IDF features, refit the winner on train and validation rows, answer the test rows.

    Linear SVM and logistic regression are tried with single words and word pairs, two vocabulary cuts, plain and
    sublinear term frequency and several strengths. The highest validation accuracy wins, ties go to the higher macro
    F1, further ties to the earlier and simpler candidate; one that did not converge wins only if none did. The same
    seed gives the same answers.

    Args:
        train_texts: documents to fit.
        train_labels: their classes, 0 to classes - 1; every class occurs.
        validation_texts: documents to choose by.
        validation_labels: their classes.
        test_texts: documents to answer; they play no part in fitting or choosing.
        seed: of the solver's shuffling.
        progress: called with (candidates done, candidates in all) after each.

    Returns:
        Predictions whose ``details`` name the chosen hyperparameters, the validation accuracy, how many candidates
        there were and how many did not converge, and the seconds it took. Margins of an SVM are not probabilities.

    Raises:
        DataError: texts and labels do not match, a class has no train row, or no text holds a word.
        MissingDependencyError: scikit-learn is not installed.
    """
    _require_sklearn()
    start = time.perf_counter()
    num_classes = int(np.max(np.asarray(train_labels), initial=0)) + 1
    train = _labels(train_texts, train_labels, num_classes, "train")
    validation = _labels(validation_texts, validation_labels, num_classes, "validation")
    _check_classes(train, num_classes)
    if not len(test_texts):
        raise DataError("The linear baseline must answer at least one test text, got none.")

    # The solvers' vectors are short: more threads gain nothing, and on a busy machine they wait for one another, which
    # makes logistic regression ten times slower.
    with _one_thread():
        trials = list(_trials(train_texts, train, validation_texts, validation, seed=seed, progress=progress))
        best = max(trials, key=lambda trial: (trial.converged, trial.accuracy, trial.macro_f1))  # the first of equals
        texts, labels = [*train_texts, *validation_texts], np.concatenate([train, validation])
        counted = _count(texts, test_texts, max_words=best.candidate.features.max_words)
        weighted = _weigh(*counted, features=best.candidate.features)
        model, converged = _fit(best.candidate, weighted[0], labels, seed=seed)
    scores, are_probabilities = _score(model, weighted[1])
    return Predictions(
        name=LINEAR,
        kind="baseline",
        scores=scores,
        predicted=scores.argmax(axis=1),
        are_probabilities=are_probabilities,
        details={
            "model": best.candidate.model,
            "C": best.candidate.strength,
            **asdict(best.candidate.features),
            "num_features": int(weighted[0].shape[1]),
            "chosen_by": "validation accuracy, ties by macro F1",
            "validation_accuracy": best.accuracy,
            "num_candidates": len(trials),
            "num_not_converged": sum(not trial.converged for trial in trials),
            "converged": converged,
            "refitted_on": "train and validation rows",
            "seconds": time.perf_counter() - start,
        },
    )


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401 (asks whether the optional extra is there)
    except ImportError as error:
        raise MissingDependencyError(
            "The linear baseline needs scikit-learn, which is not installed; run pip install 'regard[train]'."
        ) from error


def _one_thread() -> AbstractContextManager[Any]:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def _labels(texts: Sequence[str], labels: npt.ArrayLike, num_classes: int, split: str) -> npt.NDArray[np.int64]:
    checked = checked_labels(labels, num_classes=num_classes, what=f"{split} classes")
    if len(checked) != len(texts):
        raise DataError(f"Each {split} text must have one label, got {len(texts)} texts and {len(checked)} labels.")
    return checked


def _check_classes(train: npt.NDArray[np.int64], num_classes: int) -> None:
    absent = np.flatnonzero(np.bincount(train, minlength=num_classes) == 0)
    if len(absent):
        raise DataError(f"Every class must have a train row, got none of class {absent[0]}; merge or drop the class.")
    if num_classes < 2:
        raise DataError("The linear baseline must have two or more classes to tell apart, got one.")


def _trials(
    train_texts: Sequence[str],
    train: npt.NDArray[np.int64],
    validation_texts: Sequence[str],
    validation: npt.NDArray[np.int64],
    *,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Trial]:
    shapes = [(words, cut, sub) for words in (1, 2) for cut in _MIN_DOCUMENTS for sub in (False, True)]
    pairs = [(model, strength) for model, strengths in _STRENGTHS.items() for strength in strengths]
    done = 0
    counted = {words: _count(train_texts, validation_texts, max_words=words) for words in (1, 2)}
    for words, cut, sub in shapes:
        features = _Features(max_words=words, min_documents=cut, sublinear=sub)
        weighted = _weigh(*counted[words], features=features)
        for name, strength in pairs:
            candidate = _Candidate(model=name, strength=strength, features=features)
            model, converged = _fit(candidate, weighted[0], train, seed=seed)
            found = tally(validation, model.predict(weighted[1]), num_classes=int(train.max()) + 1)
            yield _Trial(
                candidate=candidate,
                accuracy=float(accuracy(found)),
                macro_f1=float(macro(f1(found))),
                converged=converged,
            )
            done += 1
            if progress is not None:
                progress(done, len(shapes) * len(pairs))


def _count(fit_texts: Sequence[str], other_texts: Sequence[str], *, max_words: int) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, max_words), dtype=np.float64)
    try:
        return counter.fit_transform(fit_texts), counter.transform(other_texts)
    except ValueError as error:
        raise DataError(
            "The linear baseline must find words of two or more letters in the train texts, got none; "
            "check that the text column is the right one."
        ) from error


def _weigh(fit_counts: Any, other_counts: Any, *, features: _Features) -> tuple[Any, Any]:
    from sklearn.feature_extraction.text import TfidfTransformer

    in_documents = np.bincount(fit_counts.indices, minlength=fit_counts.shape[1])
    # On a handful of texts no word may occur often enough: then the cut is the most common word's count.
    kept = in_documents >= min(features.min_documents, int(in_documents.max()))
    weigher = TfidfTransformer(sublinear_tf=features.sublinear)
    return weigher.fit_transform(fit_counts[:, kept]), weigher.transform(other_counts[:, kept])


def _fit(candidate: _Candidate, features: Any, labels: npt.NDArray[np.int64], *, seed: int) -> tuple[Any, bool]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    kinds = {"LinearSVC": LinearSVC, "LogisticRegression": LogisticRegression}
    model = kinds[candidate.model](C=candidate.strength, max_iter=_MAX_ITERATIONS, random_state=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features, labels)
    unfinished = [warning for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    for warning in caught:
        if warning not in unfinished:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return model, not unfinished


def _score(model: Any, features: Any) -> tuple[npt.NDArray[np.float64], bool]:
    if hasattr(model, "predict_proba"):
        return model.predict_proba(features), True
    margins = model.decision_function(features)
    return (np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins), False
