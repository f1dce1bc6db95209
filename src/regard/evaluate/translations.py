"""Score written sequences: translations by BLEU and chrF, programs and logical forms by exact match."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.evaluate.corpus_scores import CORPUS_SCORES
from regard.evaluate.table import Metric, RowSums, mean, score_models

__all__ = ["SEQUENCE_METRICS", "Written", "score_translations", "token_matches"]

SEQUENCE_METRICS = (*CORPUS_SCORES, "exact_match", "token_accuracy")
"""What ``score_translations`` can count."""

_Columns = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one model wrote for the sources of a split.

    Attributes:
        name: what a person reads in the table of models.
        kind: ``model`` or ``baseline``.
        texts: one for each source, in their order.
        details: chosen hyperparameters, seconds, parameters; plain values that fit into JSON.
    """

    name: str
    kind: str
    texts: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)


def score_translations(
    references: Sequence[str],
    models: Sequence[Written],
    *,
    metrics: Sequence[str] = ("bleu", "chrf", "bleu_lower"),
    task: str = "translation",
    split: str = "test",
    unit: str = "sentences",
    seed: int = 0,
) -> dict[str, Any]:
    """Compare what models wrote with the references and return the content of ``metrics.json``.

    Args:
        references: one text for each source.
        models: the trained model first, then baselines.
        metrics: out of ``SEQUENCE_METRICS``; the first one decides the comparison. ``exact_match`` is the share of
            texts that equal the reference, ``token_accuracy`` that of words in their place (see ``token_matches``);
            both take runs of white space as one space.
        task: what the models do, in words.
        split: name of the split that the sources are from.
        unit: what a source is, in the plural.
        seed: of the bootstrap.

    Returns:
        What ``score_models`` returns, with the library's ``signatures`` of its scores.

    Raises:
        ArgumentError: an unknown metric, or none.
        DataError: there is no reference, or a model did not write one text for each.
        MissingDependencyError: a score needs sacrebleu, which is not installed.
    """
    _check(references, models, metrics)
    rows = [_columns(model.texts, references, metrics) for model in models]
    chosen = [_metric(name, rows[0]) for name in metrics]
    sums = [
        RowSums(name=model.name, kind=model.kind, columns=columns, details=model.details)
        for model, columns in zip(models, rows, strict=True)
    ]
    content = score_models(task, chosen, sums, unit=unit, split=split, seed=seed)
    signatures = {
        name: CORPUS_SCORES[name].signature(models[0].texts, references) for name in metrics if name in CORPUS_SCORES
    }
    return {**content, "signatures": signatures}


def token_matches(text: str, reference: str) -> tuple[int, int]:
    """Return how many words of ``text`` stand in their place in ``reference``, and how long the longer one is.

    Words stand between white space. A word that is left out puts all behind it out of place, which is right where each
    counts as a step of a program, and hard on a free translation.
    """
    written, wanted = text.split(), reference.split()
    return sum(a == b for a, b in zip(written, wanted, strict=False)), max(len(written), len(wanted))


def _check(references: Sequence[str], models: Sequence[Written], metrics: Sequence[str]) -> None:
    unknown = [name for name in metrics if name not in SEQUENCE_METRICS]
    if unknown or not metrics:
        raise ArgumentError(f"metrics must be some of {', '.join(SEQUENCE_METRICS)}, got {list(metrics)}.")
    if not references:
        raise DataError("A score needs at least one reference, got none; an empty split cannot be scored.")
    for model in models:
        if len(model.texts) != len(references):
            raise DataError(
                f"{model.name!r} must have one text for each of {len(references)} references, got {len(model.texts)}."
            )


def _columns(texts: Sequence[str], references: Sequence[str], metrics: Sequence[str]) -> _Columns:
    columns: _Columns = {"rows": np.ones(len(texts))}
    for name in metrics:
        if name in CORPUS_SCORES:
            columns |= CORPUS_SCORES[name].columns(texts, references)
    pairs = list(zip(texts, references, strict=True))
    columns["exact"] = np.array([float(text.split() == reference.split()) for text, reference in pairs])
    matches = np.array([token_matches(text, reference) for text, reference in pairs], dtype=np.float64)
    columns["right_words"], columns["words"] = matches.T
    return columns


def _metric(name: str, columns: _Columns) -> Metric:
    if name in CORPUS_SCORES:
        own = [column for column in columns if column.rpartition("_")[0] == name]
        return CORPUS_SCORES[name].metric(own)
    titles = {"exact_match": "Exact match", "token_accuracy": "Token accuracy"}
    parts, of = mean("exact", "rows") if name == "exact_match" else mean("right_words", "words")
    return Metric(name=name, title=titles[name], columns=parts, of=of)
