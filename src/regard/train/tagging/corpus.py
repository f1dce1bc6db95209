"""From a data config to audited, split and encoded sentences."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard._errors import DataError
from regard.data import (
    TaggedSentences,
    Tokenizer,
    WordWindows,
    audit_tagged,
    encode_words,
    load_conll,
    load_punctuated,
    split_tagged,
)
from regard.records import Run
from regard.train.progress import Progress
from regard.train.row_ranges import row_ranges
from regard.train.tagging.config import TaggingData

__all__ = ["IGNORED", "EncodedSentences", "TaggingCorpus", "build_tagging_corpus"]

IGNORED = -100
"""Target of a word whose tag the model does not know, as ``cross_entropy`` leaves it out."""
_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class EncodedSentences:
    """Sentences of one split, their windows, and per window the tag number of each word."""

    sentences: TaggedSentences
    windows: WordWindows
    targets: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class TaggingCorpus:
    """The splits of one job; ``labels`` are the tags of the training sentences in the order of the model's outputs."""

    labels: list[str]
    tokenizer: Tokenizer
    splits: dict[str, EncodedSentences]
    audit: dict[str, Any]


def build_tagging_corpus(
    config: TaggingData,
    tokenizer: Tokenizer | Callable[[Sequence[str]], Tokenizer],
    *,
    seed: int,
    run: Run,
    progress: Progress,
) -> TaggingCorpus:
    """Load, split, audit and encode; write ``audit.json`` and ``split.json``.

    Args:
        config: where the sentences come from.
        tokenizer: what cuts words into pieces, or what learns that from the sentences of the training split.
        seed: of the splits.
        run: where the files are written.
        progress: told what takes long.

    Raises:
        DataError: a file, column, line or tag that cannot be used.
    """
    splits = _split(config, seed)
    labels = sorted(splits["train"].tag_counts())
    if len(labels) < 2:
        raise DataError(f"A tagger needs two tags or more, got only {labels[0]!r} in {splits['train'].name}.")
    if not isinstance(tokenizer, Tokenizer):
        progress.say("Learning a vocabulary from the training sentences …")
        tokenizer = tokenizer([" ".join(words) for words in splits["train"].words])
    windows = {name: encode_words(tokenizer, one.words, config.max_len) for name, one in splits.items()}
    if run.has("audit"):
        content = run.read("audit")
    else:
        progress.say("Looking for duplicates between the splits …")
        content = audit_tagged(splits, windows, max_len=config.max_len, source=str(config.path))
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    run.write("split", {name: _fingerprint(one) for name, one in splits.items()})
    encoded = {name: _encoded(one, windows[name], labels) for name, one in splits.items()}
    return TaggingCorpus(labels=labels, tokenizer=tokenizer, splits=encoded, audit=content)


def _split(config: TaggingData, seed: int) -> dict[str, TaggedSentences]:
    assert config.path is not None, "the config refuses data without a path"
    paths = {"train": config.path, "validation": config.validation_path, "test": config.test_path}
    found = {name: _load(config, path) for name, path in paths.items() if path is not None}
    shares: dict[str, float] = {"validation": config.validation_share, "test": config.test_share}
    wanted = {name: share for name, share in shares.items() if name not in found}
    if config.source == "punctuation":
        found |= _consecutive(found["train"], wanted)
    else:
        # Shares are of all sentences: the first one that is held out leaves fewer for the second.
        left = 1.0
        for held in ("test", "validation"):
            if held in wanted:
                found["train"], found[held] = split_tagged(found["train"], share=wanted[held] / left, seed=seed)
                left -= wanted[held]
    for name, most in (("train", config.max_train), ("test", config.max_test)):
        if most is not None and most < len(found[name]):
            _, found[name] = split_tagged(found[name], share=most / len(found[name]), seed=seed)
    return {name: found[name] for name in _NAMES}


def _load(config: TaggingData, path: Path) -> TaggedSentences:
    if config.source == "punctuation":
        return load_punctuated(path, window=config.window)
    return load_conll(path, word_column=config.word_column, tag_column=config.tag_column)


def _consecutive(windows: TaggedSentences, shares: dict[str, float]) -> dict[str, TaggedSentences]:
    """Return ``train`` and then what is held out, one behind the other: neighbours speak of the same things."""
    sizes = {name: max(1, round(share * len(windows))) for name, share in shares.items()}
    first = len(windows) - sum(sizes.values())
    if first < 1:
        raise DataError(
            f"A text must have a window for each split, got {len(windows)} in {windows.name}; lower data.window or "
            "give more text."
        )
    parts = {"train": windows.take(range(first))}
    for name, size in sizes.items():
        parts[name] = windows.take(range(first, first + size))
        first += size
    return parts


def _encoded(sentences: TaggedSentences, windows: WordWindows, labels: Sequence[str]) -> EncodedSentences:
    numbers = {label: number for number, label in enumerate(labels)}
    flat = iter([numbers.get(tag, IGNORED) for tags in sentences.tags for tag in tags])
    targets = [[next(flat) for _ in places] for places in windows.first_pieces]
    return EncodedSentences(sentences=sentences, windows=windows, targets=targets)


def _fingerprint(sentences: TaggedSentences) -> dict[str, Any]:
    digest = hashlib.sha256()
    for words, tags in zip(sentences.words, sentences.tags, strict=True):
        digest.update(f"{' '.join(words)}\t{' '.join(tags)}\n".encode())
    rows = row_ranges(sentences.rows)
    return {
        "num_rows": len(sentences),
        "sha256": digest.hexdigest(),
        "unit": sentences.unit,
        "files": list(sentences.files),
        "rows": rows,
    }
