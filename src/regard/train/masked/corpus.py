"""From a text to windows of word pieces, each a text of its own for BERT."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import DataError
from regard.data import Tokenizer, load_running_text, split_text, train_wordpiece
from regard.records import Run
from regard.train.language.corpus import line_lengths
from regard.train.language.texts import split_record
from regard.train.masked.config import MaskedData
from regard.train.progress import Progress

__all__ = ["MaskedCorpus", "build_masked_corpus"]


@dataclass(frozen=True, kw_only=True)
class MaskedCorpus:
    """One text in three parts of windows (windows, window), each between [CLS] and [SEP]."""

    tokenizer: Tokenizer
    windows: dict[str, npt.NDArray[np.int64]]
    audit: dict[str, Any]


def build_masked_corpus(config: MaskedData, *, run: Run, progress: Progress) -> MaskedCorpus:
    """Read, split, learn a vocabulary from the training part, encode and audit; write ``audit.json``, ``split.json``.

    What does not fill a window at the end of a part is left out, and said.

    Args:
        config: where the text is and how it is cut.
        run: where the files are written.
        progress: told what takes long.

    Raises:
        DataError: a file that cannot be used, or a part without a whole window.
    """
    assert config.path is not None, "the config refuses a text without a path"
    source = load_running_text(config.path)
    texts = split_text(source.text, validation_share=config.validation_share, test_share=config.test_share)
    progress.say("Learning a vocabulary from the training part …")
    tokenizer = train_wordpiece(texts["train"].splitlines(), vocab_size=config.vocab_size)
    windows, left = {}, {}
    for name, text in texts.items():
        windows[name], left[name] = _windows(tokenizer, text, config.window)
        if not len(windows[name]):
            raise DataError(
                f"Each split must fill a window of {config.window} tokens, got {left[name]} tokens for {name}; "
                "lower data.window, change the shares or give more text."
            )
    splits = {
        name: {"num_rows": len(found), "num_empty": 0, "length": line_lengths(texts[name])}
        for name, found in windows.items()
    }
    sizes = ", ".join(f"{len(found):,} {name}" for name, found in windows.items())
    audit = {
        "source": {"name": source.name, "files": list(source.files)},
        "summary": [
            f"Windows of {config.window} tokens: {sizes}; {tokenizer.vocab_size} word pieces",
            f"Left out at the ends: {sum(left.values())} tokens; the splits follow each other in the text",
        ],
        "warnings": [],
        "splits": splits,
        "max_len": None,
    }
    if not run.has("audit"):
        run.write("audit", audit)
        run.event("data", summary=audit["summary"], warnings=[])
    run.write("split", split_record(texts))
    return MaskedCorpus(tokenizer=tokenizer, windows=windows, audit=audit)


def _windows(tokenizer: Tokenizer, text: str, window: int) -> tuple[npt.NDArray[np.int64], int]:
    """Return the windows of a text, and how many tokens behind the last one are left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    encoded = tokenizer.encode(lines, max_len=max(map(len, lines), default=0) + 3).ids
    first, last = encoded[0][0], encoded[0][-1]
    tokens = np.fromiter((number for line in encoded for number in line[1:-1]), dtype=np.int64)
    inner = window - 2
    count = len(tokens) // inner
    body = tokens[: count * inner].reshape(count, inner)
    edge = np.ones((count, 1), dtype=np.int64)
    return np.concatenate([first * edge, body, last * edge], axis=1), len(tokens) - count * inner
