"""From a text to audited, consecutive, encoded splits."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import DataError
from regard.data import Tokenizer, character_tokenizer, consecutive_windows, load_running_text, split_text
from regard.records import Run
from regard.train.language.config import LanguageData
from regard.train.progress import Progress

__all__ = ["LanguageCorpus", "build_language_corpus", "line_lengths", "split_record"]


@dataclass(frozen=True, kw_only=True)
class LanguageCorpus:
    """One text in three parts: its tokens, what made them, and how many bytes each part has."""

    tokenizer: Tokenizer
    ids: dict[str, npt.NDArray[np.int64]]
    num_bytes: dict[str, int]
    audit: dict[str, Any]


def build_language_corpus(config: LanguageData, *, run: Run, progress: Progress) -> LanguageCorpus:
    """Read, split, encode and audit; write ``audit.json`` and ``split.json``.

    The vocabulary is learnt from the training part alone. The parts follow each other in the text, so that no
    window of one reads on in another.

    Args:
        config: where the text is and how it is cut.
        run: where the files are written.
        progress: told what takes long.

    Raises:
        DataError: a file that cannot be used, or a text too short for its windows.
    """
    assert config.path is not None, "the config refuses a text without a path"
    source = load_running_text(config.path)
    texts = split_text(source.text, validation_share=config.validation_share, test_share=config.test_share)
    progress.say("Turning the text into tokens …")
    tokenizer = character_tokenizer(texts["train"])
    ids = {name: _encoded(tokenizer, text) for name, text in texts.items()}
    short = {name: len(found) for name, found in ids.items() if len(found) < 2 * config.window + 1}
    if short:
        name, length = next(iter(short.items()))
        raise DataError(
            f"Each split must have two windows of {config.window} tokens, got {length} tokens for {name}; "
            "lower data.window, change the shares or give more text."
        )
    audit = _audit(config, source.name, list(source.files), tokenizer, texts, ids)
    if not run.has("audit"):
        run.write("audit", audit)
        run.event("data", summary=audit["summary"], warnings=audit["warnings"])
    run.write("split", split_record(texts))
    num_bytes = {name: len(text.encode()) for name, text in texts.items()}
    return LanguageCorpus(tokenizer=tokenizer, ids=ids, num_bytes=num_bytes, audit=audit)


def _encoded(tokenizer: Tokenizer, text: str) -> npt.NDArray[np.int64]:
    """Return the tokens of ``text``, encoded line by line, which a vocabulary of characters does not notice."""
    lines = text.splitlines(keepends=True)
    encoded = tokenizer.encode(lines, max_len=max(map(len, lines)) + 1).ids
    return np.fromiter((number for line in encoded for number in line), dtype=np.int64)


def _audit(
    config: LanguageData,
    name: str,
    files: list[str],
    tokenizer: Tokenizer,
    texts: dict[str, str],
    ids: dict[str, npt.NDArray[np.int64]],
) -> dict[str, Any]:
    known = set(texts["train"])
    unknown = {part: Counter(letter for letter in text if letter not in known) for part, text in texts.items()}
    splits = {
        part: {
            "num_rows": len(consecutive_windows(len(ids[part]), config.window)),
            "num_tokens": len(ids[part]),
            "num_empty": 0,
            "num_unknown": sum(unknown[part].values()),
            "length": line_lengths(text),
        }
        for part, text in texts.items()
    }
    sizes = ", ".join(f"{len(found):,} {part}" for part, found in ids.items())
    warnings = [
        f"{sum(letters.values())} characters of {part} are not in train, such as {letters.most_common(1)[0][0]!r}."
        for part, letters in unknown.items()
        if letters
    ]
    summary = [
        f"Tokens: {sizes}; {tokenizer.vocab_size} kinds ({config.tokens})",
        f"Windows: {config.window} tokens; the splits follow each other in the text",
    ]
    return {
        "source": {"name": name, "files": files},
        "summary": summary,
        "warnings": warnings,
        "splits": splits,
        "max_len": None,
    }


def line_lengths(text: str) -> dict[str, Any]:
    """Return how long the lines of a text are, as the report draws it."""
    lengths = np.array([len(line) for line in text.splitlines() if line] or [0])
    edges = np.unique(np.linspace(0, max(1, int(lengths.max())), 31).round().astype(int))
    counts, _ = np.histogram(lengths, bins=edges)
    return {
        "unit": "characters of a line",
        "median": int(np.median(lengths)),
        "p95": int(np.quantile(lengths, 0.95)),
        "max": int(lengths.max()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def split_record(texts: dict[str, str]) -> dict[str, Any]:
    """Return where each part lies, in characters counted from 1, and its fingerprint."""
    found, first = {}, 1
    for name, text in texts.items():
        last = first + len(text) - 1
        digest = hashlib.sha256(text.encode()).hexdigest()
        found[name] = {"num_rows": len(text), "sha256": digest, "rows": [[first, last]]}
        first = last + 1
    return found
