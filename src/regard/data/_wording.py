"""The audit in sentences: four lines that sum it up, and a warning for each thing that a person should not miss."""

from collections.abc import Iterator, Mapping
from typing import Any

from regard.data._suggest import listed
from regard.data.documents import normalized
from regard.data.leaks import Leaks
from regard.data.shift import LabelShift

__all__ = ["summary_lines", "warning_lines"]

_RARE_ROWS = 10
_IMBALANCE = 20  # largest label over smallest
_TRUNCATED = 0.1
_SHIFT_PSI, _SHIFT_P = 0.1, 0.01

_Rows = Mapping[str, Any]
_Shifts = Mapping[tuple[str, str], LabelShift]


def summary_lines(rows: _Rows, *, shifts: _Shifts, leaks: Leaks, max_len: int | None) -> list[str]:
    """Sum up an audit in exactly four lines: documents, labels, length, leaks.

    Args:
        rows: the ``splits`` part of the audit, the split to train on first.
        shifts: shift of the label mix for each pair of splits.
        leaks: texts that stand in two splits.
        max_len: length in tokens at which the model truncates, if known.

    Returns:
        The lines, without line ends.
    """
    return [_rows_line(rows), _labels_line(rows, shifts), _length_line(rows, max_len), _leaks_line(rows, leaks)]


def warning_lines(rows: _Rows, *, shifts: _Shifts, leaks: Leaks, max_len: int | None) -> list[str]:
    """Return one sentence for each thing that needs a person's eye; arguments as for ``summary_lines``."""
    return [
        *_row_warnings(rows, max_len),
        *_balance_warnings(rows),
        *_name_warnings(rows),
        *_shift_warnings(shifts),
        *_leak_warnings(rows, leaks),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rows_line(rows: _Rows) -> str:
    sizes = ", ".join(f"{name} {split['num_rows']:,}" for name, split in rows.items())
    labels = len({label for split in rows.values() for label in split["labels"]})
    empty = sum(split["num_empty"] for split in rows.values())
    repeated = sum(split["num_repeated"] for split in rows.values())
    return f"Documents: {sizes}; {labels} labels; {empty or 'no'} empty, {repeated or 'none'} repeated within a split."


def _labels_line(rows: _Rows, shifts: _Shifts) -> str:
    name, split = next(iter(rows.items()))
    labels = list(split["labels"].items())
    (most, largest), (least, smallest) = labels[0], labels[-1]
    total = split["num_rows"]
    line = f"Labels: {most} {_percent(largest / total)} to {least} {_percent(smallest / total)} of {name}"
    line += f" ({largest / smallest:.0f} to 1)"
    mixes = [f"{pair[1]} {shift.psi:.3f}" for pair, shift in shifts.items() if pair[0] == name]
    return f"{line}; shift of the label mix against {name} (PSI): {', '.join(mixes)}." if mixes else f"{line}."


def _length_line(rows: _Rows, max_len: int | None) -> str:
    name, split = next(iter(rows.items()))
    length = split["length"]
    line = f"Length: {name} has a median of {length['median']:,.0f} {length['unit']}, 95 % up to {length['p95']:,.0f}"
    line += f", longest {length['max']:,}"
    if max_len is None:
        return f"{line}."
    cut = ", ".join(f"{other} {_percent(rows[other]['truncated_share'])}" for other in rows)
    return f"{line}; cut at {max_len:,}: {cut}."


def _leaks_line(rows: _Rows, leaks: Leaks) -> str:
    if not leaks.exact:
        return "Leaks: there is one split only, so nothing to compare."
    found = [
        f"{exact['count']:,} + {near['count']:,} of {rows[exact['splits'][1]]['num_rows']:,} {exact['splits'][1]}"
        f" in {exact['splits'][0]} ({_percent(exact['share_of_test'] + near['share_of_test'])})"
        for exact, near in zip(leaks.exact, leaks.near, strict=True)
    ]
    return f"Leaks (word for word + nearly): {'; '.join(found)}."


def _row_warnings(rows: _Rows, max_len: int | None) -> Iterator[str]:
    for name, split in rows.items():
        if split["num_empty"]:
            yield f"Of {split['num_rows']:,} documents of {name}, {split['num_empty']:,} are empty; drop them."
        if (split["truncated_share"] or 0) > _TRUNCATED:
            share = _percent(split["truncated_share"])
            yield f"{share} of {name} is longer than {max_len:,} tokens and loses its end; raise max_len if it matters."


def _balance_warnings(rows: _Rows) -> Iterator[str]:
    name, split = next(iter(rows.items()))
    labels: dict[str, int] = split["labels"]
    largest, smallest = max(labels.values()), min(labels.values())
    if len(labels) == 1:
        yield f"All of {name} has the one label {next(iter(labels))!r}, so there is nothing to learn."
    if largest >= _IMBALANCE * smallest:
        yield (
            f"The labels of {name} are out of balance {largest / smallest:.0f} to 1; accuracy hides the rare ones, "
            "so read macro F1."
        )
    rare = [f"{label} ({count})" for label, count in labels.items() if count < _RARE_ROWS]
    if rare:
        few = f"fewer than {_RARE_ROWS} documents in {name}"
        yield f"Labels with {few} can hardly be learnt or judged: {', '.join(rare)}."


def _name_warnings(rows: _Rows) -> Iterator[str]:
    name, split = next(iter(rows.items()))
    for other, content in rows.items():
        unknown = [label for label in content["labels"] if label not in split["labels"]]
        if unknown:
            yield f"{other} has labels that {name} does not: {listed(unknown)}; none of them can be predicted."
    spellings: dict[str, list[str]] = {}
    for label in sorted({label for content in rows.values() for label in content["labels"]}):
        spellings.setdefault(normalized(label), []).append(label)
    for alike in spellings.values():
        if len(alike) > 1:
            yield f"The labels {listed(alike)} differ only in case or spaces; give them one name."


def _shift_warnings(shifts: _Shifts) -> Iterator[str]:
    for (first, second), shift in shifts.items():
        # The index alone is large by chance in small splits, the test alone for tiny shifts of large ones.
        if shift.psi >= _SHIFT_PSI and shift.p_value < _SHIFT_P:
            yield (
                f"The label mix of {second} differs from that of {first} (PSI {shift.psi:.2f}, chi-square p "
                f"{shift.p_value:.1g}); a score on {second} speaks for its own mix."
            )


def _leak_warnings(rows: _Rows, leaks: Leaks) -> Iterator[str]:
    for kind, entries in (("word for word", leaks.exact), ("nearly", leaks.near)):
        for entry in entries:
            if entry["count"]:
                first, second = entry["splits"]
                yield (
                    f"Of {rows[second]['num_rows']:,} documents of {second}, {entry['count']:,} are in {first} {kind}; "
                    f"up to {100 * entry['share_of_test']:.1f} points of its accuracy can be memory."
                )
    if leaks.conflicts:
        yield (
            f"Texts with more than one label: {len(leaks.conflicts):,}, such as {' and '.join(leaks.conflicts[0])}; "
            "no model can get all of them right."
        )
    if leaks.num_unchecked:
        yield (
            f"Very many texts are alike, so {leaks.num_unchecked:,} pairs were not compared; "
            "the count of near-duplicates is a lower bound."
        )
