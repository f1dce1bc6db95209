"""What a person should know about a data set before training on it: the content of ``audit.json``."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from regard._errors import ArgumentError
from regard.data._wording import summary_lines, warning_lines
from regard.data.documents import Documents
from regard.data.leaks import find_leaks
from regard.data.shift import label_shift

__all__ = ["audit", "describe_lengths"]

_SCHEMA_VERSION = 1
_BINS = 20


def audit(
    splits: Mapping[str, Documents],
    *,
    lengths: Mapping[str, Sequence[int]] | None = None,
    max_len: int | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Count, compare and judge the splits of a data set.

    Args:
        splits: documents by name (``train``, ``validation``, ``test``), those to train on first.
        lengths: per split the length of each document in tokens before truncation; without it words are counted.
        max_len: length in tokens at which the model truncates; needs ``lengths``.
        source: name of the data set; by default the names of the splits' sources.

    Returns:
        A dictionary for ``audit.json``: ``schema_version``, ``source``, ``splits`` (rows, empty texts, repeated texts,
        labels, lengths, share truncated), ``leaks`` (exact and near, for each pair of splits; the share is of the later
        split), ``label_shift`` (of each pair), ``conflicts`` (texts with several labels), ``max_len``, ``summary``
        (four lines for a person) and ``warnings`` (a sentence each).

    Raises:
        ArgumentError: there is no split, or ``lengths`` does not fit the splits, or ``max_len`` comes without it.
    """
    _check(splits, lengths, max_len)
    leaks = find_leaks(splits)
    counts = {name: documents.label_counts() for name, documents in splits.items()}
    shifts = {pair: label_shift(counts[pair[0]], counts[pair[1]]) for pair in combinations(splits, 2)}
    rows = {
        name: _split(documents, counts[name], leaks.repeated[name], None if lengths is None else lengths[name], max_len)
        for name, documents in splits.items()
    }
    return {
        "schema_version": _SCHEMA_VERSION,
        "source": _source(splits, source),
        "splits": rows,
        "leaks": {"exact": leaks.exact, "near": leaks.near},
        "label_shift": [
            {"splits": list(pair), "psi": shift.psi, "chi_square": shift.chi_square, "p_value": shift.p_value}
            for pair, shift in shifts.items()
        ],
        "conflicts": {"count": len(leaks.conflicts), "examples": leaks.conflicts[:5]},
        "max_len": max_len,
        "summary": summary_lines(rows, shifts=shifts, leaks=leaks, max_len=max_len),
        "warnings": warning_lines(rows, shifts=shifts, leaks=leaks, max_len=max_len),
    }


def _check(splits: Mapping[str, Documents], lengths: Mapping[str, Sequence[int]] | None, max_len: int | None) -> None:
    if not splits:
        raise ArgumentError("An audit needs at least one split, got none.")
    if lengths is None:
        if max_len is not None:
            raise ArgumentError(f"max_len counts tokens and needs lengths, got max_len={max_len} alone; give lengths.")
        return
    for name, documents in splits.items():
        given = len(lengths[name]) if name in lengths else 0
        if given != len(documents):
            raise ArgumentError(
                f"lengths must hold one length per document of {name!r}, got {given} of {len(documents)}."
            )


def _source(splits: Mapping[str, Documents], name: str | None) -> dict[str, Any]:
    names = dict.fromkeys(documents.name for documents in splits.values())
    files = dict.fromkeys(file for documents in splits.values() for file in documents.files)
    return {"name": name or ", ".join(names), "files": list(files)}


def _split(
    documents: Documents, labels: dict[str, int], repeated: int, lengths: Sequence[int] | None, max_len: int | None
) -> dict[str, Any]:
    unit = "words" if lengths is None else "tokens"
    values = np.asarray([len(text.split()) for text in documents.texts] if lengths is None else lengths, dtype=np.int64)
    return {
        "num_rows": len(documents),
        "num_empty": sum(not text.strip() for text in documents.texts),
        "num_repeated": repeated,
        "labels": labels,
        "length": describe_lengths(values, unit),
        "truncated_share": None if max_len is None else float((values > max_len).mean()),
    }


def describe_lengths(values: np.ndarray[Any, np.dtype[np.int64]], unit: str) -> dict[str, Any]:
    """Return mean, quantiles and histogram of the lengths of a split's texts, counted in ``unit``."""
    return {
        "unit": unit,
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "max": int(values.max()),
        "histogram": _histogram(values),
    }


def _histogram(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, list[int]]:
    """Count lengths in bins of one width up to the 99th percentile, and in one last bin the rest."""
    width = max(1, int(np.ceil((np.quantile(values, 0.99) + 1) / _BINS)))
    edges = [width * number for number in range(_BINS + 1)]
    if values.max() >= edges[-1]:
        edges.append(int(values.max()) + 1)
    return {"edges": edges, "counts": np.histogram(values, bins=edges)[0].tolist()}
