"""What a person should know about sequences of frames before training on them: the content of ``audit.json``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from regard.data.audit import describe_lengths
from regard.data.frame_sequences import FrameSequences
from regard.data.shift import label_shift

__all__ = ["audit_sequences"]

_EXAMPLES = 5
_RARE_ROWS = 10
_SHIFT_PSI, _SHIFT_P = 0.1, 0.01
_FAR = 0.5  # deviations of the training numbers

_Splits = Mapping[str, FrameSequences]


def audit_sequences(splits: _Splits, *, source: str) -> dict[str, Any]:
    """Count and compare the splits.

    Missing values need no count: readers refuse them.

    Args:
        splits: sequences by name, those to train on first.
        source: name of the data set.

    Returns:
        Plain values: ``schema_version``, ``source``, ``channels``, ``splits`` (sequences, repeated ones, lengths,
        classes or the numbers' mean and range), ``leaks`` (``exact``, for each pair of splits: sequences of the later
        one that are equal, value for value, to one of the earlier), ``label_shift``, ``summary`` and ``warnings``.
    """
    counts = {name: Counter(one.labels) for name, one in splits.items() if one.labels is not None}
    rows = {name: _split(one) for name, one in splits.items()}
    exact = [_leaks(first, second, splits) for first, second in combinations(splits, 2)]
    shifts = [_shift(pair, counts) for pair in combinations(counts, 2)]
    files = dict.fromkeys(file for one in splits.values() for file in one.files)
    return {
        "schema_version": 1,
        "source": {"name": source, "files": list(files)},
        "channels": list(next(iter(splits.values())).channels),
        "splits": rows,
        "leaks": {"exact": exact},
        "label_shift": shifts,
        "summary": list(_summary(splits, rows, exact)),
        "warnings": [*_leak_warnings(exact), *_class_warnings(counts, shifts), *_number_warnings(rows)],
    }


def _split(sequences: FrameSequences) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_rows": len(sequences),
        "num_repeated": len(sequences) - len(set(sequences.digests())),
        "num_groups": None if sequences.groups is None else len(set(sequences.groups)),
        "length": describe_lengths(np.asarray(sequences.lengths, dtype=np.int64), "frames"),
    }
    if sequences.labels is not None:
        found["labels"] = dict(sorted(Counter(sequences.labels).items(), key=lambda item: (-item[1], item[0])))
    if sequences.numbers is not None:
        numbers = sequences.numbers
        found["numbers"] = {
            "mean": float(numbers.mean()),
            "deviation": float(numbers.std()),
            "min": float(numbers.min()),
            "max": float(numbers.max()),
        }
    return found


def _leaks(first: str, second: str, splits: _Splits) -> dict[str, Any]:
    known: dict[str, int] = {}
    for index, digest in enumerate(splits[first].digests()):
        known.setdefault(digest, index)
    pairs = [(known[digest], index) for index, digest in enumerate(splits[second].digests()) if digest in known]
    return {
        "splits": [first, second],
        "count": len(pairs),
        "share_of_test": len(pairs) / len(splits[second]),
        "examples": [[splits[first].rows[a], splits[second].rows[b]] for a, b in pairs[:_EXAMPLES]],
    }


def _shift(pair: tuple[str, str], counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    shift = label_shift(counts[pair[0]], counts[pair[1]])
    return {"splits": list(pair), "psi": shift.psi, "chi_square": shift.chi_square, "p_value": shift.p_value}


def _summary(splits: _Splits, rows: Mapping[str, Any], exact: list[dict[str, Any]]) -> Iterator[str]:
    train = next(iter(splits.values()))
    sizes = ", ".join(f"{name} {split['num_rows']:,}" for name, split in rows.items())
    channels = "1 channel" if len(train.channels) == 1 else f"{len(train.channels)} channels"
    named = [name for name in train.channels[:12] if not name.startswith("channel ")]
    told = f": {', '.join(named)}" + (" and more" if len(train.channels) > len(named) else "") if named else ""
    yield f"Sequences: {sizes}; {channels}{told}."
    lengths = [length for one in splits.values() for length in one.lengths]
    yield f"Length: {min(lengths):,} to {max(lengths):,} frames, median {np.median(lengths):,.0f}; nothing is cut."
    if train.labels is not None:
        shares = [f"{label} {count / len(train):.1%}" for label, count in list(rows["train"]["labels"].items())[:9]]
        yield f"Classes: {len(set(train.labels))}; of the training sequences {', '.join(shares)}."
    if train.numbers is not None:
        told = "; ".join(
            f"{name} {n['mean']:.4g} ± {n['deviation']:.4g}, {n['min']:.4g} to {n['max']:.4g}"
            for name, n in ((name, split["numbers"]) for name, split in rows.items())
        )
        yield f"Numbers: {told}."
    groups = ", ".join(f"{name} {split['num_groups']:,}" for name, split in rows.items() if split["num_groups"])
    if groups:
        yield f"Groups: {groups}; none stands on two sides."
    leaked = [f"{one['count']:,} of {one['splits'][1]} in {one['splits'][0]}" for one in exact if one["count"]]
    yield f"Leaks: {', '.join(leaked) or 'no sequence stands in two splits, value for value'}."


def _leak_warnings(exact: list[dict[str, Any]]) -> Iterator[str]:
    for one in exact:
        if one["count"]:
            first, second = one["splits"]
            yield (
                f"Of the {second} sequences, {one['count']:,} ({one['share_of_test']:.1%}) are equal to one of "
                f"{first}, as those of rows {one['examples'][0][0]} and {one['examples'][0][1]}."
            )


def _class_warnings(counts: Mapping[str, Mapping[str, int]], shifts: list[dict[str, Any]]) -> Iterator[str]:
    rare = [f"{label} ({count})" for label, count in counts.get("train", {}).items() if count < _RARE_ROWS]
    if rare:
        yield f"Fewer than {_RARE_ROWS} training sequences are of {', '.join(rare)}; figures of so few are chance."
    for shift in shifts:
        if shift["psi"] >= _SHIFT_PSI and shift["p_value"] < _SHIFT_P:
            first, second = shift["splits"]
            yield (
                f"The mix of classes of {second} differs from that of {first} (PSI {shift['psi']:.2f}, chi-square p "
                f"{shift['p_value']:.1g}); a score on {second} speaks for its own mix."
            )


def _number_warnings(rows: Mapping[str, Any]) -> Iterator[str]:
    train = rows["train"].get("numbers")
    for name, split in rows.items():
        if train is None or name == "train":
            continue
        moved = abs(split["numbers"]["mean"] - train["mean"]) / train["deviation"]
        if moved > _FAR:
            yield (
                f"The numbers of {name} lie {moved:.1f} deviations of the training numbers away from these on the "
                "mean; what was learnt of levels will not hold there."
            )
