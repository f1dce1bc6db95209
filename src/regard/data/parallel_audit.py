"""What a person should know about pairs of texts before training on them: the content of ``audit.json``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError
from regard.data.audit import describe_lengths
from regard.data.documents import Documents, normalized
from regard.data.leaks import Leaks, find_leaks
from regard.data.parallel import ParallelTexts

__all__ = ["audit_parallel"]

_SCHEMA_VERSION = 1
_NO_TEXT = "(no text)"
_UNUSUAL_RATIO = 3.0  # times the median of target over source length, or its inverse
_MANY_UNUSUAL, _MANY_COPIED, _MANY_TRUNCATED = 0.01, 0.01, 0.1

Lengths = tuple[Sequence[int], Sequence[int]]
_Ints = npt.NDArray[np.int64]


def audit_parallel(
    splits: Mapping[str, ParallelTexts],
    *,
    lengths: Mapping[str, Lengths] | None = None,
    max_len: int | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Count, compare and judge the splits of a parallel data set.

    Args:
        splits: pairs by name (``train``, ``validation``, ``test``), those to train on first.
        lengths: per split the lengths of its sources and of its targets in tokens before truncation; without it words
            are counted.
        max_len: length in tokens at which either side is truncated; needs ``lengths``.
        source: name of the data set; by default the names of the splits' sources.

    Returns:
        A dictionary for ``audit.json``: ``schema_version``, ``source``, ``splits`` (rows, pairs with an empty side,
        repeated sources, copies, lengths of both sides, their ratio, share truncated), ``leaks`` (sources that stand in
        two splits, exactly and nearly; the share is of the later split; ``num_same_target`` of them with the same
        translation), ``ambiguous`` (sources with several translations), ``max_len``, ``summary`` (four lines for a
        person) and ``warnings`` (a sentence each).

    Raises:
        ArgumentError: there is no split, or ``lengths`` does not fit the splits, or ``max_len`` comes without it.
    """
    _check(splits, lengths, max_len)
    measured = {name: _lengths(pairs, None if lengths is None else lengths[name]) for name, pairs in splits.items()}
    first = next(iter(measured.values()))
    usual = float(np.median(first[1] / np.maximum(first[0], 1)))
    leaks = find_leaks({name: _as_documents(pairs) for name, pairs in splits.items()})
    unit = "words" if lengths is None else "tokens"
    rows = {
        name: _split(pairs, measured[name], leaks.repeated[name], unit=unit, max_len=max_len, usual=usual)
        for name, pairs in splits.items()
    }
    exact = [{**entry, "num_same_target": _same_target(splits, *entry["splits"])} for entry in leaks.exact]
    return {
        "schema_version": _SCHEMA_VERSION,
        "source": _source(splits, source),
        "splits": rows,
        "leaks": {"exact": exact, "near": leaks.near},
        "ambiguous": {"count": len(leaks.conflicts), "examples": leaks.conflicts[:5]},
        "max_len": max_len,
        "summary": [_pairs_line(rows), _length_line(rows, max_len), _ratio_line(rows), _leaks_line(rows, exact, leaks)],
        "warnings": list(_warnings(rows, exact, leaks, max_len)),
    }


def _check(splits: Mapping[str, ParallelTexts], lengths: Mapping[str, Lengths] | None, max_len: int | None) -> None:
    if not splits:
        raise ArgumentError("An audit needs at least one split, got none.")
    if lengths is None:
        if max_len is not None:
            raise ArgumentError(f"max_len counts tokens and needs lengths, got max_len={max_len} alone; give lengths.")
        return
    for name, pairs in splits.items():
        given = [len(side) for side in lengths.get(name, ())]
        if given != [len(pairs)] * 2:
            raise ArgumentError(
                f"lengths must hold one length per source and per target of {name!r}, got {given} of {len(pairs)}."
            )


def _lengths(pairs: ParallelTexts, given: Lengths | None) -> tuple[_Ints, _Ints]:
    if given is not None:
        return np.asarray(given[0], dtype=np.int64), np.asarray(given[1], dtype=np.int64)
    source, target = (np.asarray([len(text.split()) for text in side]) for side in (pairs.source, pairs.target))
    return source, target


def _as_documents(pairs: ParallelTexts) -> Documents:
    """Return the sources with their targets as labels: texts with several labels are then ambiguous ones."""
    labels = [text if text.strip() else _NO_TEXT for text in pairs.target]
    return Documents(texts=pairs.source, labels=labels, name=pairs.name, rows=pairs.rows, unit=pairs.unit)


def _source(splits: Mapping[str, ParallelTexts], name: str | None) -> dict[str, Any]:
    names = dict.fromkeys(pairs.name for pairs in splits.values())
    files = dict.fromkeys(file for pairs in splits.values() for file in pairs.files)
    return {"name": name or ", ".join(names), "files": list(files)}


def _split(
    pairs: ParallelTexts, lengths: tuple[_Ints, _Ints], repeated: int, *, unit: str, max_len: int | None, usual: float
) -> dict[str, Any]:
    source, target = lengths
    whole = [bool(a.strip() and b.strip()) for a, b in zip(pairs.source, pairs.target, strict=True)]
    ratio = target / np.maximum(source, 1)
    unusual = np.array(whole) & ((ratio > _UNUSUAL_RATIO * usual) | (ratio * _UNUSUAL_RATIO < usual))
    copied = [a.strip() == b.strip() for a, b in zip(pairs.source, pairs.target, strict=True)]
    longer = np.maximum(source, target)
    return {
        "num_rows": len(pairs),
        "num_empty": len(whole) - sum(whole),
        "num_repeated": repeated,
        "num_copied": sum(copied),
        "length": describe_lengths(source, unit),
        "target_length": describe_lengths(target, unit),
        "ratio": {
            "median": float(np.median(ratio)),
            "p05": float(np.quantile(ratio, 0.05)),
            "p95": float(np.quantile(ratio, 0.95)),
            "num_unusual": int(unusual.sum()),
            "examples": [pairs.where(int(index)) for index in np.flatnonzero(unusual)[:5]],
        },
        "truncated_share": None if max_len is None else float((longer > max_len).mean()),
    }


def _same_target(splits: Mapping[str, ParallelTexts], first: str, second: str) -> int:
    """Return how many pairs of the second split are in the first, on both sides."""
    known = set(_keys(splits[first]))
    return sum(key in known for key in _keys(splits[second]))


def _keys(pairs: ParallelTexts) -> Iterator[tuple[str, str]]:
    for source, target in zip(pairs.source, pairs.target, strict=True):
        if source.strip():
            yield normalized(source), normalized(target)


def _pairs_line(rows: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{name} {split['num_rows']:,}" for name, split in rows.items())
    empty = sum(split["num_empty"] for split in rows.values())
    repeated = sum(split["num_repeated"] for split in rows.values())
    return f"Pairs: {sizes}; {empty or 'no'} empty, {repeated or 'no'} repeated sources within a split."


def _length_line(rows: Mapping[str, Any], max_len: int | None) -> str:
    name, split = next(iter(rows.items()))
    sides = [
        f"{side} has a median of {length['median']:,.0f}, 95 % up to {length['p95']:,.0f}, longest {length['max']:,}"
        for side, length in (("source", split["length"]), ("target", split["target_length"]))
    ]
    line = f"Length: {name} in {split['length']['unit']}: {'; '.join(sides)}"
    if max_len is None:
        return f"{line}."
    cut = ", ".join(f"{other} {_percent(rows[other]['truncated_share'])}" for other in rows)
    return f"{line}; cut at {max_len:,}: {cut}."


def _ratio_line(rows: Mapping[str, Any]) -> str:
    ratio = next(iter(rows.values()))["ratio"]
    unusual = ", ".join(f"{name} {split['ratio']['num_unusual']:,}" for name, split in rows.items())
    return (
        f"Ratio: a target is {ratio['median']:.2f} times as long as its source, 90 % are {ratio['p05']:.2f} to "
        f"{ratio['p95']:.2f}; more than {_UNUSUAL_RATIO:.0f}-fold off: {unusual}."
    )


def _leaks_line(rows: Mapping[str, Any], exact: Sequence[Mapping[str, Any]], leaks: Leaks) -> str:
    if not exact:
        return "Leaks: there is one split only, so nothing to compare."
    found = [
        f"{one['count']:,} + {near['count']:,} of {rows[one['splits'][1]]['num_rows']:,} {one['splits'][1]} in "
        f"{one['splits'][0]}, {one['num_same_target']:,} with the same target"
        for one, near in zip(exact, leaks.near, strict=True)
    ]
    return f"Leaks (word for word + nearly): {'; '.join(found)}."


def _warnings(
    rows: Mapping[str, Any], exact: Sequence[Mapping[str, Any]], leaks: Leaks, max_len: int | None
) -> Iterator[str]:
    for name, split in rows.items():
        size, ratio = split["num_rows"], split["ratio"]
        if split["num_empty"]:
            yield f"Of {size:,} pairs of {name}, {split['num_empty']:,} have an empty side; drop them."
        if (split["truncated_share"] or 0) > _MANY_TRUNCATED:
            share = _percent(split["truncated_share"])
            yield f"{share} of {name} is longer than {max_len:,} tokens and loses its end; raise max_len if it matters."
        if ratio["num_unusual"] > _MANY_UNUSUAL * size:
            yield (
                f"Of {size:,} pairs of {name}, {ratio['num_unusual']:,} are more than {_UNUSUAL_RATIO:.0f}-fold off "
                f"the usual length, first {ratio['examples'][0]}; look whether they are translations of each other."
            )
        if split["num_copied"] > _MANY_COPIED * size:
            copied = f"{split['num_copied']:,} have the source as target"
            yield f"Of {size:,} pairs of {name}, {copied}; a model learns to copy them."
    yield from _leak_warnings(rows, exact, leaks)


def _leak_warnings(rows: Mapping[str, Any], exact: Sequence[Mapping[str, Any]], leaks: Leaks) -> Iterator[str]:
    for kind, entries in (("word for word", exact), ("nearly", leaks.near)):
        for entry in entries:
            if entry["count"]:
                first, second = entry["splits"]
                yield (
                    f"Of {rows[second]['num_rows']:,} sources of {second}, {entry['count']:,} are in {first} {kind}; "
                    f"{_percent(entry['share_of_test'])} of its score can be memory."
                )
    if leaks.num_unchecked:
        yield (
            f"Very many sources are alike, so {leaks.num_unchecked:,} pairs of them were not compared; "
            "the count of near-duplicates is a lower bound."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
