"""From a text to audited, consecutive, encoded splits."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import DataError
from regard.data import (
    RunningTokens,
    Tokenizer,
    character_tokenizer,
    consecutive_windows,
    encode_running,
    running_subwords,
    running_words,
)
from regard.records import Run
from regard.train.language.config import LanguageData
from regard.train.language.texts import TextParts, load_parts, split_record
from regard.train.progress import Progress

__all__ = ["LanguageCorpus", "build_language_corpus", "line_lengths"]

_LINES_READ_BACK = 200


@dataclass(frozen=True, kw_only=True)
class LanguageCorpus:
    """One text in three parts: its tokens, and what made them."""

    tokenizer: Tokenizer
    parts: dict[str, RunningTokens]
    audit: dict[str, Any]

    @property
    def ids(self) -> dict[str, npt.NDArray[np.int64]]:
        """Return the token numbers of each part."""
        return {name: part.ids for name, part in self.parts.items()}

    def num_unknown(self, name: str) -> int:
        """Return how many tokens of a part stand for what the vocabulary does not have."""
        unknown = self.tokenizer.unknown_id
        return 0 if unknown is None else int((self.parts[name].ids == unknown).sum())


def build_language_corpus(
    config: LanguageData, *, run: Run, progress: Progress, own_tokenizer: Callable[[], Tokenizer] | None = None
) -> LanguageCorpus:
    """Read, split, encode and audit; write ``audit.json`` and ``split.json``.

    The vocabulary is learnt from the training part alone. Parts of one text follow each other in it, so that no window
    of one reads on in another.

    Args:
        config: where the text is and how it is cut.
        run: where the files are written.
        progress: told what takes long.
        own_tokenizer: returns that of a decoder that is given, for ``tokens="own"``.

    Raises:
        DataError: a file that cannot be used, or a text too short for its windows.
    """
    found = load_parts(config)
    progress.say("Turning the text into tokens …")
    tokenizer = _tokenizer(config, found.texts["train"], own_tokenizer)
    parts = {name: encode_running(tokenizer, text) for name, text in found.texts.items()}
    short = {name: len(part.ids) for name, part in parts.items() if len(part.ids) < 2 * config.window + 1}
    if short:
        name, length = next(iter(short.items()))
        raise DataError(
            f"Each split must have two windows of {config.window} tokens, got {length} tokens for {name}; "
            "lower data.window, change the shares or give more text."
        )
    corpus = LanguageCorpus(tokenizer=tokenizer, parts=parts, audit={})
    audit = _audit(config, found, corpus)
    if not run.has("audit"):
        run.write("audit", audit)
        run.event("data", summary=audit["summary"], warnings=audit["warnings"])
    run.write("split", split_record(found.texts, found.files))
    return LanguageCorpus(tokenizer=tokenizer, parts=parts, audit=audit)


def _tokenizer(config: LanguageData, text: str, own: Callable[[], Tokenizer] | None) -> Tokenizer:
    if config.tokens == "own":
        assert own is not None, "the job of a decoder that is given brings its tokenizer"
        return own()
    if config.tokens == "subwords":
        return running_subwords(text, vocab_size=config.most_tokens)
    if config.tokens == "words":
        return running_words(text, vocab_size=config.most_tokens)
    return character_tokenizer(text)


def _audit(config: LanguageData, found: TextParts, corpus: LanguageCorpus) -> dict[str, Any]:
    splits = {
        part: {
            "num_rows": len(consecutive_windows(len(tokens.ids), config.window)),
            "num_tokens": len(tokens.ids),
            "num_bytes": int(tokens.num_bytes.sum()),
            "num_words": int(tokens.num_words.sum()),
            "num_empty": 0,
            "num_unknown": corpus.num_unknown(part),
            "length": line_lengths(found.texts[part]),
        }
        for part, tokens in corpus.parts.items()
    }
    sizes = ", ".join(f"{split['num_tokens']:,} {part}" for part, split in splits.items())
    apart = f"; files of their own: {', '.join(found.apart)}" if found.apart else ""
    follow = "" if len(found.apart) > 1 else "; the splits follow each other in the text"
    summary = [
        f"Tokens: {sizes}; {corpus.tokenizer.vocab_size:,} kinds ({config.tokens})",
        f"Windows: {config.window} tokens{follow}{apart}",
    ]
    if config.tokens != "characters":
        counts = {part: int(tokens.num_words.sum()) for part, tokens in corpus.parts.items()}
        each = len(corpus.ids["train"]) / max(1, counts["train"])
        sizes = ", ".join(f"{count:,} {part}" for part, count in counts.items())
        summary.append(f"Words between white space: {sizes}; {each:.2f} tokens each in train")
    return {
        "source": {"name": found.name, "files": found.all_files},
        "summary": summary,
        "warnings": [
            *_unknown(config, found.texts, corpus),
            *_lost(config, found.texts["test"], corpus),
            *found.warnings(),
        ],
        "splits": splits,
        "max_len": None,
    }


def _unknown(config: LanguageData, texts: dict[str, str], corpus: LanguageCorpus) -> list[str]:
    """Say what of each part the vocabulary does not have."""
    if config.tokens == "characters":
        known = set(texts["train"])
        letters = {part: Counter(letter for letter in text if letter not in known) for part, text in texts.items()}
        return [
            f"{sum(found.values())} characters of {part} are not in train, such as {found.most_common(1)[0][0]!r}."
            for part, found in letters.items()
            if found
        ]
    warnings = []
    for part, text in texts.items():
        if count := corpus.num_unknown(part):
            share = count / len(corpus.parts[part].ids)
            spelled = f"; {text.count('<unk>'):,} stand in the text as <unk>" if "<unk>" in text else ""
            warnings.append(f"{count:,} tokens of {part} ({share:.1%}) are not in the vocabulary{spelled}.")
    return warnings


def _lost(config: LanguageData, text: str, corpus: LanguageCorpus) -> list[str]:
    """Say whether the tokenizer of a given decoder changes what it reads; ours give back every text that they know."""
    if config.tokens != "own":
        return []
    lines = text.splitlines(keepends=True)[:_LINES_READ_BACK]
    read = (corpus.tokenizer.decode(encode_running(corpus.tokenizer, line).ids.tolist()) for line in lines)
    # Some leave out the blank where a text begins.
    changed = [line for line, back in zip(lines, read, strict=True) if back.strip() != line.strip()]
    if not changed:
        return []
    return [
        f"The tokenizer does not give back {len(changed)} of the first {len(lines)} lines of test as they were, such "
        f"as {changed[0].strip()[:60]!r}: bits a byte are of an easier text and compare with nothing."
    ]


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
