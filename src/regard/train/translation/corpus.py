"""From a data config to audited, split and encoded pairs of texts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data import (
    ParallelTexts,
    Tokenizer,
    audit_parallel,
    drop_unpaired,
    load_parallel_lines,
    load_parallel_table,
    load_scan,
    split_parallel,
)
from regard.records import Run
from regard.train.progress import Progress
from regard.train.row_ranges import row_ranges
from regard.train.translation.config import PairsConfig

__all__ = ["EncodedPairs", "PairsCorpus", "build_pairs"]


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """Pairs of one split with the token ids of both sides, cut to the model's length, each ending in its end token."""

    pairs: ParallelTexts
    source: list[list[int]]
    target: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class PairsCorpus:
    """The splits of one job and the vocabulary of both sides."""

    tokenizer: Tokenizer
    splits: dict[str, EncodedPairs]
    audit: dict[str, Any]


def build_pairs(
    config: PairsConfig, learn: Callable[[Sequence[str]], Tokenizer], *, seed: int, run: Run, progress: Progress
) -> PairsCorpus:
    """Load, split, audit and encode; write ``audit.json`` and ``split.json``.

    Pairs with an empty side are left out and counted in the audit's warnings.

    Args:
        config: where the pairs come from.
        learn: makes the vocabulary, given both sides of the training split.
        seed: of the splits.
        run: where the files are written.
        progress: told what takes long.

    Raises:
        DataError: a file, column or text that cannot be used.
    """
    splits, dropped = _split(config, seed)
    progress.say("Learning a vocabulary from the training pairs …")
    tokenizer = learn([*splits["train"].source, *splits["train"].target])
    sides = {
        name: [tokenizer.encode(side, config.max_len) for side in (pairs.source, pairs.target)]
        for name, pairs in splits.items()
    }
    if run.has("audit"):
        content = run.read("audit")
    else:
        progress.say("Looking for duplicates between the splits …")
        lengths = {name: (source.lengths, target.lengths) for name, (source, target) in sides.items()}
        content = audit_parallel(splits, lengths=lengths, max_len=config.max_len, source=str(config.path))
        if dropped:
            content["warnings"].append(f"{len(dropped)} pairs with an empty side were left out, first {dropped[0]}.")
        content["dropped_empty"] = dropped
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    run.write("split", {name: _fingerprint(pairs) for name, pairs in splits.items()})
    return PairsCorpus(
        tokenizer=tokenizer,
        splits={
            name: EncodedPairs(pairs=pairs, source=sides[name][0].ids, target=sides[name][1].ids)
            for name, pairs in splits.items()
        },
        audit=content,
    )


def _split(config: PairsConfig, seed: int) -> tuple[dict[str, ParallelTexts], list[str]]:
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
    if "test" not in found:
        found["train"], found["test"] = split_parallel(found["train"], share=config.test_share, seed=seed)
    if "validation" not in found:
        found["train"], found["validation"] = split_parallel(found["train"], share=config.validation_share, seed=seed)
    for name, most in (("train", config.max_train), ("test", config.max_test)):
        if most is not None and most < len(found[name]):
            _, found[name] = split_parallel(found[name], share=most / len(found[name]), seed=seed)
    return {name: found[name] for name in files}, dropped


def _load(config: PairsConfig, path: Path, target_path: Path | None) -> ParallelTexts:
    if config.source == "lines":
        assert target_path is not None, "the config refuses lines of one side"
        return load_parallel_lines(path, target_path)
    if config.source == "scan":
        return load_scan(path)
    return load_parallel_table(path, source=config.source_column, target=config.target_column, header=config.header)


def _fingerprint(pairs: ParallelTexts) -> dict[str, Any]:
    digest = hashlib.sha256()
    for source, target in zip(pairs.source, pairs.target, strict=True):
        digest.update(f"{source}\t{target}\n".encode())
    rows = row_ranges(pairs.rows)
    return {"num_rows": len(pairs), "sha256": digest.hexdigest(), "files": list(pairs.files), "rows": rows}
