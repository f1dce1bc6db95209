"""What a person should know about tagged sentences before training on them: the content of ``audit.json``."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from regard._errors import ArgumentError
from regard.data._suggest import listed
from regard.data.audit import describe_lengths
from regard.data.documents import Documents
from regard.data.leaks import Leaks, find_leaks
from regard.data.tagged import TaggedSentences
from regard.data.word_windows import WordWindows

__all__ = ["audit_tagged"]

_SCHEMA_VERSION = 1
_MANY_CUT = 0.1
_RARE_WORDS = 10


def audit_tagged(
    splits: Mapping[str, TaggedSentences],
    windows: Mapping[str, WordWindows],
    *,
    max_len: int,
    source: str | None = None,
) -> dict[str, Any]:
    """Count, compare and judge the splits of a set of tagged sentences.

    Args:
        splits: sentences by name (``train``, ``validation``, ``test``), those to train on first.
        windows: per split what ``encode_words`` made of it.
        max_len: most tokens of a window.
        source: name of the data set; by default the names of the splits' sources.

    Returns:
        A dictionary for ``audit.json``: ``schema_version``, ``source``, ``splits`` (sentences, words, repeated
        sentences, words per tag, lengths in tokens, the share of sentences that are read in several windows), ``leaks``
        (sentences that stand in two splits, exactly and nearly; the share is of the later split), ``conflicts``
        (sentences that are tagged in several ways), ``left_out``, ``max_len``, ``summary`` (four lines for a person)
        and ``warnings`` (a sentence each).

    Raises:
        ArgumentError: there is no split, or ``windows`` does not fit the splits.
    """
    if not splits:
        raise ArgumentError("An audit needs at least one split, got none.")
    for name, sentences in splits.items():
        given = len(windows[name].lengths) if name in windows else 0
        if given != len(sentences):
            raise ArgumentError(f"windows must hold each sentence of {name!r}, got {given} of {len(sentences)}.")
    leaks = find_leaks({name: _as_documents(sentences) for name, sentences in splits.items()})
    rows = {name: _split(one, windows[name], leaks.repeated[name]) for name, one in splits.items()}
    # Splits of one file share what was left out of it.
    left_out: dict[tuple[str, ...], Mapping[str, int]] = {one.files: one.left_out for one in splits.values()}
    totals: dict[str, int] = {}
    for counts in left_out.values():
        for what, count in counts.items():
            totals[what] = totals.get(what, 0) + count
    return {
        "schema_version": _SCHEMA_VERSION,
        "source": _source(splits, source),
        "splits": rows,
        "leaks": {"exact": leaks.exact, "near": leaks.near},
        "conflicts": {"count": len(leaks.conflicts), "examples": leaks.conflicts[:5]},
        "left_out": totals,
        "max_len": max_len,
        "summary": [_rows_line(rows, totals), _tags_line(rows), _length_line(rows, max_len), _leaks_line(rows, leaks)],
        "warnings": list(_warnings(rows, leaks, max_len)),
    }


def _as_documents(sentences: TaggedSentences) -> Documents:
    """Return the sentences with all their tags as one label: texts with several labels are then tagged in two ways."""
    return Documents(
        texts=[" ".join(words) for words in sentences.words],
        labels=[" ".join(tags) for tags in sentences.tags],
        name=sentences.name,
        rows=sentences.rows,
        unit=sentences.unit,
    )


def _source(splits: Mapping[str, TaggedSentences], name: str | None) -> dict[str, Any]:
    names = dict.fromkeys(sentences.name for sentences in splits.values())
    files = dict.fromkeys(file for sentences in splits.values() for file in sentences.files)
    return {"name": name or ", ".join(names), "files": list(files)}


def _split(sentences: TaggedSentences, windows: WordWindows, repeated: int) -> dict[str, Any]:
    return {
        "num_rows": len(sentences),
        "num_words": sentences.num_words,
        "num_empty": 0,
        "num_repeated": repeated,
        "labels": sentences.tag_counts(),
        "length": describe_lengths(np.asarray(windows.lengths, dtype=np.int64), "tokens"),
        "num_windows": len(windows.ids),
        "num_cut_words": windows.num_cut_words,
        "truncated_share": windows.num_cut_sentences / len(sentences),
    }


def _rows_line(rows: Mapping[str, Any], left_out: Mapping[str, int]) -> str:
    sizes = ", ".join(f"{name} {split['num_rows']:,} ({split['num_words']:,} words)" for name, split in rows.items())
    repeated = sum(split["num_repeated"] for split in rows.values())
    told = ", ".join(f"{what} {count:,}" for what, count in left_out.items())
    rest = f"; left out: {told}" if told else ""
    return f"Sentences: {sizes}; {repeated or 'none'} repeated within a split{rest}."


def _tags_line(rows: Mapping[str, Any]) -> str:
    name, split = next(iter(rows.items()))
    tags = list(split["labels"].items())
    total = split["num_words"]
    (most, largest), (least, smallest) = tags[0], tags[-1]
    return (
        f"Tags: {len(tags)} in {name}, {most} {_percent(largest / total)} of its words to {least} {smallest:,} times."
    )


def _length_line(rows: Mapping[str, Any], max_len: int) -> str:
    name, split = next(iter(rows.items()))
    length = split["length"]
    cut = ", ".join(f"{other} {_percent(rows[other]['truncated_share'])}" for other in rows)
    return (
        f"Length: {name} has a median of {length['median']:,.0f} tokens, 95 % up to {length['p95']:,.0f}, longest "
        f"{length['max']:,}; read in several windows of {max_len:,}: {cut}."
    )


def _leaks_line(rows: Mapping[str, Any], leaks: Leaks) -> str:
    if not leaks.exact:
        return "Leaks: there is one split only, so nothing to compare."
    found = [
        f"{exact['count']:,} + {near['count']:,} of {rows[exact['splits'][1]]['num_rows']:,} {exact['splits'][1]}"
        f" in {exact['splits'][0]} ({_percent(exact['share_of_test'] + near['share_of_test'])})"
        for exact, near in zip(leaks.exact, leaks.near, strict=True)
    ]
    return f"Leaks (word for word + nearly): {'; '.join(found)}."


def _warnings(rows: Mapping[str, Any], leaks: Leaks, max_len: int) -> Iterator[str]:
    first, train = next(iter(rows.items()))
    for name, split in rows.items():
        if split["truncated_share"] > _MANY_CUT:
            share = _percent(split["truncated_share"])
            yield (
                f"{share} of {name} is longer than {max_len:,} tokens and read in windows that do not see each other; "
                "raise max_len if it matters."
            )
        if split["num_cut_words"]:
            count = f"{split['num_cut_words']:,} words of {name}"
            yield f"{count} alone are longer than {max_len:,} tokens and lose their end; raise max_len if it matters."
        unknown = [tag for tag in split["labels"] if tag not in train["labels"]]
        if unknown:
            count = sum(split["labels"][tag] for tag in unknown)
            yield (
                f"{name} has tags that {first} does not: {listed(unknown)}; the model cannot name them, so {count:,} "
                f"of its {split['num_words']:,} words count as wrong."
            )
    rare = [f"{tag} ({count})" for tag, count in train["labels"].items() if count < _RARE_WORDS]
    if rare:
        yield f"Tags with fewer than {_RARE_WORDS} words in {first} can hardly be learnt or judged: {', '.join(rare)}."
    yield from _leak_warnings(rows, leaks)


def _leak_warnings(rows: Mapping[str, Any], leaks: Leaks) -> Iterator[str]:
    for kind, entries in (("word for word", leaks.exact), ("nearly", leaks.near)):
        for entry in entries:
            if entry["count"]:
                first, second = entry["splits"]
                yield (
                    f"Of {rows[second]['num_rows']:,} sentences of {second}, {entry['count']:,} are in {first} {kind}; "
                    f"{_percent(entry['share_of_test'])} of its score can be memory."
                )
    if leaks.conflicts:
        yield (
            f"Sentences that are tagged in more than one way: {len(leaks.conflicts):,}, the first at "
            f"{leaks.conflicts[0][0].partition(' (')[0]} and {leaks.conflicts[0][1].partition(' (')[0]}."
        )
    if leaks.num_unchecked:
        yield (
            f"Very many sentences are alike, so {leaks.num_unchecked:,} pairs were not compared; "
            "the count of near-duplicates is a lower bound."
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
