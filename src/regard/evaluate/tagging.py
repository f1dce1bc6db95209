"""Score taggers: accuracy of words, macro F1 over tags and, where tags spell spans, exact spans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import DataError
from regard.evaluate.classification import Tally, confusion_matrix, f1, precision, recall, tally
from regard.evaluate.spans import Span, spans_of, spell_spans
from regard.evaluate.table import Metric, RowSums, mean, score_models

__all__ = ["TAG_ACCURACY", "Tagged", "score_taggers", "tag_figures", "tag_sums"]

_ACCURACY = mean("right", "words")
TAG_ACCURACY = Metric(name="accuracy", title="Token accuracy", columns=_ACCURACY[0], of=_ACCURACY[1])
"""The first metric: the share of words, whole words and not pieces, that have their tag."""

_SPAN_COLUMNS = ("span_hits", "spans_named", "spans_true")
_Floats = npt.NDArray[np.float64]
_Tags = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """The tags that one model gave to the words of a split.

    Attributes:
        name: what a person reads in the table of models.
        kind: ``model`` or ``baseline``.
        tags: per sentence a tag for each word.
        details: chosen hyperparameters, seconds, parameters; plain values that fit into JSON.
    """

    name: str
    kind: str
    tags: _Tags
    details: Mapping[str, Any] = field(default_factory=dict)


def score_taggers(
    true: _Tags,
    models: Sequence[Tagged],
    *,
    task: str = "token tagging",
    split: str = "test",
    unit: str = "sentences",
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the tags that models gave with the true ones and return the content of ``metrics.json``.

    Macro F1 is the mean over the tags that the split has, each weighing the same; 0/0 counts as 0, as for classes.
    Where the true tags spell spans (``B-PER I-PER O``, see ``spans_of``), precision, recall and F1 of exact spans are
    there too: a span is right if its type and both its ends are.

    Args:
        true: per sentence the tag of each word.
        models: the trained model first, then baselines.
        task: what the models do, in words.
        split: name of the split.
        unit: what a row is, in the plural.
        seed: of the bootstrap, which draws sentences: words of one are not independent.

    Returns:
        What ``score_models`` returns, and of the first model the table per tag (``per_class``), the ``confusion``
        between ``labels``, what these are called and counted in (``class_name``, ``class_unit``) and, of spans, the
        table per type (``per_span``).

    Raises:
        DataError: there is no sentence, or a model did not give one tag for each word.
    """
    _check(true, models)
    present, has_spans, metrics = _metrics(true)
    rows = [
        RowSums(
            name=model.name,
            kind=model.kind,
            columns=_columns(true, model.tags, present, has_spans=has_spans),
            details=model.details,
        )
        for model in models
    ]
    content = score_models(task, metrics, rows, unit=unit, split=split, seed=seed)
    labels = sorted({*present, *(tag for tags in models[0].tags for tag in tags)})
    numbers = {label: number for number, label in enumerate(labels)}
    flat = [np.array([numbers[tag] for tags in side for tag in tags]) for side in (true, models[0].tags)]
    more = {"per_span": _per_span(true, models[0].tags)} if has_spans else {}
    return {
        **content,
        "labels": labels,
        "class_name": "tag",
        "class_unit": "words",
        "per_class": _per_tag(labels, tally(flat[0], flat[1], num_classes=len(labels))),
        "confusion": confusion_matrix(flat[0], flat[1], num_classes=len(labels)).tolist(),
        **more,
    }


def tag_figures(true: _Tags, given: _Tags) -> dict[str, float]:
    """Return accuracy, macro F1 and, where the true tags spell spans, span F1, without intervals."""
    present, has_spans, metrics = _metrics(true)
    columns = _columns(true, given, present, has_spans=has_spans)
    wanted = [metric for metric in metrics if metric.name in ("accuracy", "macro_f1", "span_f1")]
    return {one.name: float(one.of(np.array([np.sum(columns[name]) for name in one.columns]))) for one in wanted}


def tag_sums(true: _Tags, given: _Tags) -> tuple[_Floats, _Floats]:
    """Return per sentence how many words have their true tag, and how many words there are."""
    right = [sum(a == b for a, b in zip(one, other, strict=True)) for one, other in zip(true, given, strict=True)]
    return np.array(right, dtype=np.float64), np.array([len(tags) for tags in true], dtype=np.float64)


def _metrics(true: _Tags) -> tuple[list[str], bool, list[Metric]]:
    """Return the tags that there are, whether they spell spans, and the metrics of such a split."""
    present = sorted({tag for tags in true for tag in tags})
    has_spans = spell_spans(present)
    return present, has_spans, [TAG_ACCURACY, _macro_f1(len(present)), *(_span_metrics() if has_spans else [])]


def _check(true: _Tags, models: Sequence[Tagged]) -> None:
    if not true:
        raise DataError("A score needs at least one sentence, got none; an empty split cannot be scored.")
    lengths = [len(tags) for tags in true]
    for model in models:
        if [len(tags) for tags in model.tags] != lengths:
            raise DataError(
                f"{model.name!r} must give one tag for each of {sum(lengths)} words of {len(lengths)} sentences, got "
                f"{sum(map(len, model.tags))} tags of {len(model.tags)}."
            )


def _columns(true: _Tags, given: _Tags, present: Sequence[str], *, has_spans: bool) -> dict[str, npt.ArrayLike]:
    right, words = tag_sums(true, given)
    numbers = {tag: number for number, tag in enumerate(present)}
    counts = np.zeros((3, len(present), len(true)))
    for row, (one, other) in enumerate(zip(true, given, strict=True)):
        for a, b in zip(one, other, strict=True):
            counts[2, numbers[a], row] += 1
            if b in numbers:  # a tag that the split does not have costs the recall of the true one
                counts[1, numbers[b], row] += 1
                counts[0, numbers[b], row] += a == b
    columns: dict[str, npt.ArrayLike] = {"right": right, "words": words}
    columns |= dict(zip(_tag_columns(len(present)), counts.reshape(-1, len(true)), strict=True))
    if has_spans:
        columns |= dict(zip(_SPAN_COLUMNS, _span_sums(true, given), strict=True))
    return columns


def _tag_columns(num_tags: int) -> list[str]:
    return [f"{what}_{number}" for what in ("hits", "named", "true") for number in range(num_tags)]


def _macro_f1(num_tags: int) -> Metric:
    def of(sums: _Floats) -> Any:
        hits, named, true = sums.reshape(3, num_tags, *sums.shape[1:])
        return _ratio(2 * hits, named + true).mean(axis=0)

    return Metric(name="macro_f1", title="Macro F1", columns=tuple(_tag_columns(num_tags)), of=of)


def _span_metrics() -> list[Metric]:
    made = partial(Metric, columns=_SPAN_COLUMNS)
    return [
        made(name="span_precision", title="Span precision", of=lambda sums: _ratio(sums[0], sums[1])),
        made(name="span_recall", title="Span recall", of=lambda sums: _ratio(sums[0], sums[2])),
        made(name="span_f1", title="Span F1", of=lambda sums: _ratio(2 * sums[0], sums[1] + sums[2])),
    ]


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Any:
    # Who names no span has found none.
    part, whole = np.asarray(part), np.asarray(whole)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _span_sums(true: _Tags, given: _Tags) -> _Floats:
    """Return, (3, sentences), how many spans are right, were named and are true."""
    sums = []
    for one, other in zip(true, given, strict=True):
        wanted, named = set(spans_of(one)), set(spans_of(other))
        sums.append((len(wanted & named), len(named), len(wanted)))
    return np.array(sums, dtype=np.float64).T


def _per_tag(labels: Sequence[str], counts: Tally) -> list[dict[str, Any]]:
    columns = zip(labels, precision(counts), recall(counts), f1(counts), counts.support, strict=True)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        for label, p, r, f, support in columns
    ]


def _per_span(true: _Tags, given: _Tags) -> list[dict[str, Any]]:
    wanted, named = (_located(side) for side in (true, given))
    rows = []
    for kind in sorted({span[0] for _, span in wanted | named}):
        of_kind = [{(row, span) for row, span in side if span[0] == kind} for side in (wanted, named)]
        hits, num_true, num_named = len(of_kind[0] & of_kind[1]), len(of_kind[0]), len(of_kind[1])
        rows.append(
            {
                "label": kind,
                "precision": hits / num_named if num_named else 0.0,
                "recall": hits / num_true if num_true else 0.0,
                "f1": 2 * hits / (num_true + num_named),
                "support": num_true,
            }
        )
    return rows


def _located(side: _Tags) -> set[tuple[int, Span]]:
    return {(row, span) for row, tags in enumerate(side) for span in spans_of(tags)}
