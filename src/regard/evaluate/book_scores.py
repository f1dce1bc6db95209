"""How well a book is translated: as a whole, along its length, and by the length of its sentences."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.evaluate.block_bootstrap import block_counts
from regard.evaluate.bootstrap import NUM_RESAMPLES
from regard.evaluate.corpus_scores import CORPUS_SCORES
from regard.evaluate.table import Metric, RowSums, score_models

__all__ = ["score_book"]

_METRICS = ("chrf", "bleu")
_PARTS = 10
# Rows that are drawn together, as neighbours share their scene, names and style; a fifth of them where they are few.
_STRETCH = 20
_LENGTHS = (10, 20, 30, 40)  # words of a source at which a class of lengths begins, beside 1


def score_book(
    sources: Sequence[str], texts: Sequence[str], references: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Compare the translation of a book with that of a person.

    Args:
        sources: rows of the book, in its order.
        texts: their translations.
        references: those of a person.
        seed: of the bootstrap.

    Returns:
        Plain values: ``whole``, ``by_position`` (tenths of the rows) and ``by_length`` (words of the source), each with
        ``num_rows`` and an interval for ``chrf`` and ``bleu``; the latter two are lists, with ``first`` and ``last``
        row or word. ``method`` says how the intervals were made, ``signatures`` what was computed.

    Raises:
        ArgumentError: not one translation and one reference for each source.
        DataError: there is no row.
        MissingDependencyError: sacrebleu is not installed.
    """
    if not len(sources) == len(texts) == len(references):
        raise ArgumentError(
            "A book needs one translation and one reference for each source, got "
            f"{len(texts)} and {len(references)} for {len(sources)}."
        )
    if not sources:
        raise DataError("A score needs at least one row with a reference, got none.")
    scores = [CORPUS_SCORES[name] for name in _METRICS]
    columns = {name: column for score in scores for name, column in score.columns(texts, references).items()}
    metrics = [score.metric([name for name in columns if name.rpartition("_")[0] == score.name]) for score in scores]
    words = np.array([len(text.split()) for text in sources])
    rows = np.arange(len(sources))
    return {
        "whole": _scored(metrics, columns, rows, seed),
        "by_position": [
            {"first": int(part[0]), "last": int(part[-1]), **_scored(metrics, columns, part, seed)}
            for part in np.array_split(rows, _PARTS)
            if len(part)
        ],
        "by_length": _by_length(metrics, columns, words, seed),
        "method": (
            f"95 % percentile bootstrap over stretches of {_STRETCH} rows, a fifth of them where that is fewer, as "
            f"they follow one another, {NUM_RESAMPLES} resamples, seed {seed}"
        ),
        "signatures": {score.name: score.signature(texts, references) for score in scores},
    }


def _by_length(
    metrics: Sequence[Metric], columns: dict[str, npt.NDArray[np.float64]], words: npt.NDArray[Any], seed: int
) -> list[dict[str, Any]]:
    bounds = [1, *_LENGTHS, max(int(words.max()), _LENGTHS[-1]) + 1]
    classes = []
    for first, behind in pairwise(bounds):
        chosen = np.flatnonzero((words >= first) & (words < behind))
        if len(chosen):
            classes.append({"first": first, "last": behind - 1, **_scored(metrics, columns, chosen, seed)})
    return classes


def _scored(
    metrics: Sequence[Metric], columns: dict[str, npt.NDArray[np.float64]], rows: npt.NDArray[Any], seed: int
) -> dict[str, Any]:
    """Return the number of rows and the intervals of all metrics over some of them."""
    sums = RowSums(name="the model", kind="model", columns={name: column[rows] for name, column in columns.items()})
    resamples = block_counts(len(rows), min(_STRETCH, max(1, len(rows) // 5)), seed=seed)
    table = score_models("translation", metrics, [sums], unit="rows", resamples=resamples, method="see method")
    return {"num_rows": len(rows), **table["models"][0]["metrics"]}
