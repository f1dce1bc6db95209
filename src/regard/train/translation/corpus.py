"""From a data config to audited, split and encoded pairs of texts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from regard.data import ParallelTexts, Tokenizer, audit_parallel, encode_with_contexts
from regard.records import Run
from regard.train.progress import Progress
from regard.train.row_ranges import row_ranges
from regard.train.translation.config import PairsConfig
from regard.train.translation.pairs_splits import PairsSplits, split_pairs

__all__ = ["EncodedPairs", "PairsCorpus", "build_pairs"]


@dataclass(frozen=True, kw_only=True)
class EncodedPairs:
    """Pairs of one split with the token ids of both sides, cut to the model's length, each ending in its end token.

    A source is followed by its context, if there is one.
    """

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
    found = split_pairs(config, seed)
    splits = found.splits
    progress.say("Learning a vocabulary from the training pairs …")
    tokenizer = learn([*splits["train"].source, *splits["train"].target])
    sides = {
        name: (
            encode_with_contexts(
                tokenizer, pairs.source, pairs.contexts, max_len=config.max_len, context_len=config.context_len
            ),
            tokenizer.encode(pairs.target, config.max_len),
        )
        for name, pairs in splits.items()
    }
    if run.has("audit"):
        content = run.read("audit")
    else:
        progress.say("Looking for duplicates between the splits …")
        lengths = {name: (source.lengths, target.lengths) for name, (source, target) in sides.items()}
        content = audit_parallel(splits, lengths=lengths, max_len=config.max_len, source=str(config.path))
        content["dropped_empty"] = found.dropped
        if found.dropped:
            content["warnings"].append(
                f"{len(found.dropped)} pairs with an empty side were left out, first {found.dropped[0]}."
            )
        if found.documents is not None:
            _tell_documents(content, found)
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    documents = found.documents or {}
    run.write("split", {name: _fingerprint(pairs, documents.get(name)) for name, pairs in splits.items()})
    return PairsCorpus(
        tokenizer=tokenizer,
        splits={
            name: EncodedPairs(pairs=pairs, source=sides[name][0].ids, target=sides[name][1].ids)
            for name, pairs in splits.items()
        },
        audit=content,
    )


def _tell_documents(content: dict[str, Any], found: PairsSplits) -> None:
    """Add to an audit which documents are where, how many words they have, and what was left out for them."""
    assert found.documents is not None, "asked for documents only"
    words = {name: sum(len(text.split()) for text in pairs.source) for name, pairs in found.splits.items()}
    content["documents"] = {
        name: {"names": names, "num_source_words": words[name]} for name, names in found.documents.items()
    }
    content["dropped_quoted"] = found.quoted
    counts = ", ".join(f"{name} {len(names)} ({words[name]:,} words)" for name, names in found.documents.items())
    content["summary"].append(f"Documents: {counts}; none is in two splits.")
    if found.quoted:
        content["warnings"].append(
            f"{len(found.quoted):,} pairs with a source that a held-out document has, too, were left out, first "
            f"{found.quoted[0]}."
        )


def _fingerprint(pairs: ParallelTexts, documents: list[str] | None) -> dict[str, Any]:
    digest = hashlib.sha256()
    for source, target in zip(pairs.source, pairs.target, strict=True):
        digest.update(f"{source}\t{target}\n".encode())
    rows = row_ranges(pairs.rows)
    content = {"num_rows": len(pairs), "sha256": digest.hexdigest(), "files": list(pairs.files), "rows": rows}
    return content if documents is None else {**content, "documents": documents}
