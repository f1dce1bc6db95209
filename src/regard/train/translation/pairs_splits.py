"""The splits of a translator's pairs: loaded, named by document, divided, and free of each other's texts."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from regard._errors import DataError
from regard.data import (
    ParallelTexts,
    document_names,
    drop_unpaired,
    hold_out_documents,
    load_parallel_lines,
    load_parallel_table,
    load_scan,
    name_documents,
    split_parallel,
    with_contexts,
    without_sources_of,
)
from regard.train.translation.config import PairsConfig

__all__ = ["PairsSplits", "split_pairs"]

_NAMES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class PairsSplits:
    """The splits of one job, and what is not in them.

    Attributes:
        splits: train, validation and test.
        dropped: where the pairs stood that have an empty side.
        quoted: where the pairs stood whose source is also one of a document held out.
        documents: split -> names of its documents; None where pairs stand alone.
    """

    splits: dict[str, ParallelTexts]
    dropped: list[str]
    quoted: list[str]
    documents: dict[str, list[str]] | None


def split_pairs(config: PairsConfig, seed: int) -> PairsSplits:
    """Load the files of ``config`` and divide what has no split of its own.

    Pairs that stand alone are divided so that equal sources stay together; documents are held out whole, and pairs with
    a source that a held-out document has, too, are left out.

    Raises:
        DataError: a file, column, document or text that cannot be used, or a document in two files.
    """
    assert config.path is not None, "the config refuses data without a path"
    files = {
        "train": (config.path, config.target_path),
        "validation": (config.validation_path, config.validation_target_path),
        "test": (config.test_path, config.test_target_path),
    }
    found: dict[str, ParallelTexts] = {}
    dropped: list[str] = []
    for name, (path, target_path) in files.items():
        if path is not None:
            found[name], more = drop_unpaired(_load(config, path, target_path))
            dropped += more
    for name in ("test", "validation"):
        if name not in found:
            found["train"], found[name] = _divided(config, found["train"], name, seed)
    documents = None
    quoted: list[str] = []
    if config.document_column is not None:
        documents = {name: document_names(found[name]) for name in _NAMES}
        _refuse_shared(documents)
        for name, later in (("validation", ("test",)), ("train", ("validation", "test"))):
            found[name], more = without_sources_of(found[name], [found[other] for other in later])
            quoted += more
    for name, most in (("train", config.max_train), ("test", config.max_test)):
        if most is not None and most < len(found[name]):
            _, found[name] = split_parallel(found[name], share=most / len(found[name]), seed=seed)
    return PairsSplits(
        splits={name: found[name] for name in _NAMES}, dropped=dropped, quoted=quoted, documents=documents
    )


def _divided(config: PairsConfig, pairs: ParallelTexts, name: str, seed: int) -> tuple[ParallelTexts, ParallelTexts]:
    share: float = getattr(config, f"{name}_share")
    if config.document_column is None:
        return split_parallel(pairs, share=share, seed=seed)
    parts = hold_out_documents(pairs, share=share, seed=seed, names=getattr(config, f"{name}_documents"))
    return parts.rest, parts.held


def _refuse_shared(documents: dict[str, list[str]]) -> None:
    for first, second in combinations(documents, 2):
        if both := [name for name in documents[second] if name in set(documents[first])]:
            raise DataError(
                f"A document must be in one split, got {both[0]!r} in {first} and in {second}: what is learnt from one "
                "part is known of the other; take it out of a file."
            )


def _load(config: PairsConfig, path: Path, target_path: Path | None) -> ParallelTexts:
    if config.source == "lines":
        assert target_path is not None, "the config refuses lines of one side"
        return load_parallel_lines(path, target_path)
    if config.source == "scan":
        return load_scan(path)
    pairs = load_parallel_table(
        path,
        source=config.source_column,
        target=config.target_column,
        document=config.document_column,
        header=config.header,
    )
    if config.document_pattern is not None:
        pairs = name_documents(pairs, config.document_pattern)
    # Before any pair is left out: what is read is what stood there.
    return with_contexts(pairs, config.context) if config.context else pairs
