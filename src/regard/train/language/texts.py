"""The text of a language model in three parts, out of one file or of a file for each, and where each part stands."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from regard._errors import DataError
from regard.data import load_running_text, split_text
from regard.train.language.config import LanguageData

__all__ = ["TextParts", "load_parts", "split_record"]

_NAMES = ("train", "validation", "test")
_LONG = 60  # characters; shorter lines, such as headings, recur honestly


@dataclass(frozen=True, kw_only=True)
class TextParts:
    """A text for training, validation and test.

    Attributes:
        texts: part -> its text.
        files: part -> the files that it is from.
        name: what a person calls the source.
    """

    texts: dict[str, str]
    files: dict[str, tuple[str, ...]]
    name: str

    @property
    def all_files(self) -> list[str]:
        """Return every file once."""
        return list(dict.fromkeys(file for files in self.files.values() for file in files))

    @property
    def apart(self) -> list[str]:
        """Return the parts that are files of their own."""
        return [name for name in _NAMES[1:] if self.files[name] != self.files["train"]]

    def warnings(self) -> list[str]:
        """Say how many long lines of a later part also stand in an earlier one, where they are files of their own."""
        found = []
        for first, second in combinations(_NAMES, 2):
            if self.files[first] == self.files[second]:
                continue
            known = set(_long_lines(self.texts[first]))
            lines = _long_lines(self.texts[second])
            if both := sum(line in known for line in lines):
                found.append(
                    f"{both:,} of {len(lines):,} lines of {second} with {_LONG} characters or more stand word for word "
                    f"in {first}: what is learnt there is known here."
                )
        return found


def load_parts(config: LanguageData) -> TextParts:
    """Read the files of ``config`` and cut off ``path`` what has no file of its own.

    Raises:
        DataError: a file that cannot be used, or two parts that are one text.
    """
    assert config.path is not None, "the config refuses a text without a path"
    source = load_running_text(config.path)
    paths: dict[str, Path | None] = {"validation": config.validation_path, "test": config.test_path}
    own = {name: load_running_text(path) for name, path in paths.items() if path is not None}
    shares = {
        "validation_share": 0.0 if "validation" in own else config.validation_share,
        "test_share": 0.0 if "test" in own else config.test_share,
    }
    whole = {"data.path": source} | {f"data.{name}_path": found for name, found in own.items()}
    for (first, one), (second, other) in combinations(whole.items(), 2):
        if one.text == other.text or set(map(_resolved, one.files)) & set(map(_resolved, other.files)):
            raise DataError(
                f"{first} and {second} must be different texts, got {one.name} and {other.name}, which share one: what "
                "was learnt would be tested on itself; name another file, or leave one out for a share to be held out."
            )
    texts = split_text(source.text, **shares) | {name: found.text for name, found in own.items()}
    files = {name: own[name].files if name in own else source.files for name in _NAMES}
    return TextParts(texts={name: texts[name] for name in _NAMES}, files=files, name=source.name)


def split_record(texts: Mapping[str, str], files: Mapping[str, tuple[str, ...]] | None = None) -> dict[str, Any]:
    """Return where each part lies, in characters of its own files counted from 1, and its fingerprint.

    Args:
        texts: part -> its text; parts of the same files follow each other there.
        files: part -> its files; None where all are from the same.
    """
    found: dict[str, Any] = {}
    places: dict[tuple[str, ...], int] = {}
    for name, text in texts.items():
        of = () if files is None else files[name]
        first = places.get(of, 1)
        places[of] = first + len(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        found[name] = {"num_rows": len(text), "sha256": digest, "rows": [[first, first + len(text) - 1]]}
        if files is not None:
            found[name]["files"] = list(of)
    return found


def _resolved(file: str) -> Path:
    return Path(file).resolve()


def _long_lines(text: str) -> list[str]:
    return [line for line in map(str.strip, text.splitlines()) if len(line) >= _LONG]
