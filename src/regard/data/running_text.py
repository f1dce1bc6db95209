"""One long text for a language model: read, cut into consecutive splits, and read on in windows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regard._errors import ArgumentError, DataError
from regard.data.text_files import COMPRESSED, read_text

__all__ = ["RunningText", "WindowBatches", "consecutive_windows", "load_running_text", "split_text"]


@dataclass(frozen=True, kw_only=True)
class RunningText:
    """A text, what a person calls its source, and the files that were read."""

    text: str
    name: str
    files: tuple[str, ...]


def load_running_text(path: str | Path) -> RunningText:
    """Read a text file, or all ``.txt`` files of a folder in the order of their names, compressed or not.

    Raises:
        DataError: a file is missing, damaged or not UTF-8, the folder has no text file, or there is no text in it.
    """
    path = Path(path)
    files = sorted(file for file in path.iterdir() if _is_text(file)) if path.is_dir() else [path]
    if not files:
        raise DataError(f"A folder of texts must hold files that end in .txt, got none in {path}; name a file.")
    text = "".join(read_text(file) for file in files)
    if not text.strip():
        raise DataError(f"A language model needs a text to learn from, got nothing but white space in {path}.")
    return RunningText(text=text, name=path.name, files=tuple(str(file) for file in files))


def _is_text(file: Path) -> bool:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return file.is_file() and suffixes[-1:] == [".txt"]


def split_text(text: str, *, validation_share: float, test_share: float) -> dict[str, str]:
    """Return ``train``, ``validation`` and ``test``, one behind the other, so that none reads on in another.

    Args:
        text: the whole text.
        validation_share: of its characters; with 0 there is no validation part.
        test_share: of its characters; the last ones; with 0 there is no test part.

    Raises:
        ArgumentError: a share that leaves a split without a character.
    """
    first_of_test = int(len(text) * (1 - test_share))
    first_of_validation = int(len(text) * (1 - test_share - validation_share))
    parts = {
        "train": text[:first_of_validation],
        "validation": text[first_of_validation:first_of_test],
        "test": text[first_of_test:],
    }
    shares = {"validation": validation_share, "test": test_share}
    wanted = {name: part for name, part in parts.items() if shares.get(name, 1) != 0}
    if min(shares.values()) < 0 or first_of_validation <= 0 or not all(wanted.values()):
        raise ArgumentError(
            f"The shares must leave characters for train, validation and test, got {validation_share} and "
            f"{test_share} of {len(text)}; change them or give more text."
        )
    return wanted


class WindowBatches:
    """Batches of windows of a sequence, each token once an epoch, cut at other places in each epoch.

    A window is named by its first token; the model sees ``window`` tokens from there and learns the next of each.

    Example:
        >>> windows = WindowBatches(100, window=10, batch_size=4, seed=0)
        >>> [len(batch) for batch in windows.batches(0)]
        [4, 4, 1]

    Args:
        num_tokens: tokens of the sequence.
        window: tokens of a window.
        batch_size: windows of a batch; the last one of an epoch may be smaller.
        seed: the same seed gives the same batches.

    Raises:
        ArgumentError: the sequence is too short for two windows and the token behind them, or a size is below 1.
    """

    def __init__(self, num_tokens: int, *, window: int, batch_size: int, seed: int = 0) -> None:
        if window < 1 or batch_size < 1:
            raise ArgumentError(f"window and batch_size must be at least 1, got {window} and {batch_size}.")
        if num_tokens < 2 * window + 1:
            raise ArgumentError(
                f"A text must have two windows of {window} tokens and one more, got {num_tokens}; "
                "make the window shorter or give more text."
            )
        self._window, self._batch_size, self._seed = window, batch_size, seed
        # The same number whatever place the first window begins at, so that all epochs are of one length.
        self._num_windows = (num_tokens - window) // window

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of ``epoch`` (from 0): where each window begins."""
        generator = np.random.default_rng([self._seed, epoch])
        offset = int(generator.integers(self._window))
        starts = offset + self._window * generator.permutation(self._num_windows)
        return [starts[first : first + self._batch_size].tolist() for first in range(0, len(starts), self._batch_size)]


def consecutive_windows(num_tokens: int, window: int) -> list[tuple[int, int]]:
    """Return first and last + 1 of windows that together predict each token but the first once.

    Raises:
        ArgumentError: fewer than two tokens: there is nothing to predict.
    """
    if num_tokens < 2:
        raise ArgumentError(f"A text must have two tokens or more to be predicted, got {num_tokens}.")
    return [(first, min(first + window, num_tokens - 1)) for first in range(0, num_tokens - 1, window)]
