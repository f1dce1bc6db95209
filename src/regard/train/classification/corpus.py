"""From a data config to audited, split and encoded documents."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regard._errors import DataError
from regard.data import (
    Documents,
    Tokenizer,
    audit,
    drop_empty,
    load_hub,
    load_newsgroups,
    load_reuters_r8,
    load_reuters_r52,
    load_table,
    normalized,
    require_known_labels,
    split_documents,
)
from regard.records import Run
from regard.train.classification.config import DataConfig
from regard.train.progress import Progress
from regard.train.row_ranges import row_ranges

__all__ = ["Corpus", "EncodedSplit", "build_corpus"]

_PUBLISHED = {
    "reuters-r8": ("Reuters R8", load_reuters_r8),
    "reuters-r52": ("Reuters R52", load_reuters_r52),
    "20newsgroups": ("20 Newsgroups", load_newsgroups),
}


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """Documents of one split with their token ids, cut to the model's length, and label indices."""

    documents: Documents
    ids: list[list[int]]
    targets: list[int]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The splits of one job; ``labels`` are the class names in the order of the model's outputs."""

    labels: list[str]
    tokenizer: Tokenizer
    splits: dict[str, EncodedSplit]
    audit: dict[str, Any]


def build_corpus(
    config: DataConfig,
    tokenizer: Tokenizer | Callable[[Sequence[str]], Tokenizer],
    *,
    seed: int,
    run: Run,
    progress: Progress,
) -> Corpus:
    """Load, split, audit and encode; write ``audit.json`` and ``split.json``.

    The validation set is taken from the training documents; a published test set is never touched. Documents without
    text are left out and counted in the audit's warnings.

    Args:
        config: where the documents come from.
        tokenizer: what turns them into token ids, or what learns that from the texts of the training split.
        seed: of the splits.
        run: where the files are written.
        progress: told what takes long.

    Raises:
        DataError: a file, column, label or text that cannot be used.
    """
    splits, dropped = _split(config, seed)
    if not isinstance(tokenizer, Tokenizer):
        progress.say("Learning a vocabulary from the training documents …")
        tokenizer = tokenizer(splits["train"].texts)
    encoded = {name: tokenizer.encode(documents.texts, config.max_len) for name, documents in splits.items()}
    lengths = {name: found.lengths for name, found in encoded.items()}
    if run.has("audit"):
        content = run.read("audit")
    else:
        progress.say("Looking for duplicates between the splits …")
        content = audit(splits, lengths=lengths, max_len=config.max_len, source=_source(config))
        if dropped:
            content["warnings"].append(f"{len(dropped)} rows without text were left out, the first {dropped[0]}.")
        content["dropped_empty"] = dropped
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    labels = sorted(set(splits["train"].labels))
    index = {label: number for number, label in enumerate(labels)}
    run.write("split", {name: _fingerprint(documents) for name, documents in splits.items()})
    return Corpus(
        labels=labels,
        tokenizer=tokenizer,
        splits={
            name: EncodedSplit(
                documents=documents, ids=encoded[name].ids, targets=[index[label] for label in documents.labels]
            )
            for name, documents in splits.items()
        },
        audit=content,
    )


def _split(config: DataConfig, seed: int) -> tuple[dict[str, Documents], list[str]]:
    train, test, dropped = _load(config)
    _require_enough(train, ["train", "validation", *(["test"] if test is None else [])])
    if test is None:
        train, test = split_documents(train, share=config.test_share, seed=seed)
    require_known_labels(train, test)
    if config.max_train is not None and config.max_train < len(train):
        _, train = split_documents(train, share=config.max_train / len(train), seed=seed)
    if config.max_test is not None and config.max_test < len(test):
        _, test = split_documents(test, share=config.max_test / len(test), seed=seed)
    train, validation = split_documents(train, share=config.validation_share, seed=seed)
    if len(set(train.labels)) < 2:
        raise DataError(f"A classifier needs two classes or more, got only {train.labels[0]!r} in {train.name}.")
    return {"train": train, "validation": validation, "test": test}, dropped


def _require_enough(documents: Documents, splits: Sequence[str]) -> None:
    """Refuse a label with fewer different texts than there are splits to be in; the rarest label is named."""
    different: dict[str, set[str]] = {}
    for text, label in zip(documents.texts, documents.labels, strict=True):
        different.setdefault(label, set()).add(normalized(text))
    label = min(different, key=lambda name: len(different[name]))
    number = len(different[label])
    if number < len(splits):
        raise DataError(
            f"A label needs {len(splits)} different texts to be in {', '.join(splits[:-1])} and {splits[-1]}, got "
            f"{number} for {label!r} (at {documents.where(documents.labels.index(label))}); "
            "add documents, merge it into another label, or drop it."
        )


def _load(config: DataConfig) -> tuple[Documents, Documents | None, list[str]]:
    if config.source in _PUBLISHED:
        _, load = _PUBLISHED[config.source]
        train, test = load()
        return train, test, []
    if config.source == "hub":
        train, dropped = drop_empty(_of_hub(config, config.split))
        other = None if config.test_split is None else _of_hub(config, config.test_split)
    else:
        assert config.path is not None, "the config refuses a table without a path"
        train, dropped = drop_empty(load_table(config.path, text=config.text, label=config.label))
        path = config.test_path
        other = None if path is None else load_table(path, text=config.text, label=config.label)
    if other is None:
        return train, None, dropped
    test, more = drop_empty(other)
    return train, test, [*dropped, *more]


def _of_hub(config: DataConfig, split: str) -> Documents:
    assert config.name is not None, "the config refuses a hub without a name"
    return load_hub(config.name, split=split, text=config.text, label=config.label, revision=config.revision)


def _source(config: DataConfig) -> str:
    if config.source in _PUBLISHED:
        return _PUBLISHED[config.source][0]
    return config.name if config.name is not None else str(config.path)


def _fingerprint(documents: Documents) -> dict[str, Any]:
    digest = hashlib.sha256()
    for text, label in zip(documents.texts, documents.labels, strict=True):
        digest.update(f"{label}\t{text}\n".encode())
    return {"num_rows": len(documents), "sha256": digest.hexdigest(), "rows": row_ranges(documents.rows)}
