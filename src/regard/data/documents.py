"""Labelled texts, each of which can say where it came from."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import SupportsIndex

from regard._errors import ArgumentError, DataError

__all__ = ["Documents", "drop_empty", "normalized"]


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Texts with one label each, in the order of their source.

    Example:
        >>> letters = Documents(texts=["Dear", "Hi"], labels=["formal", "casual"], name="letters", rows=[1, 2])
        >>> letters.where(1)
        'letters row 2'

    Attributes:
        texts: the documents; may hold empty strings, which the audit counts and ``drop_empty`` removes.
        labels: one class name per text, never empty.
        name: what a person calls the source, such as a file name.
        rows: number of each text in its source, counted as ``unit`` is usually counted there.
        unit: what ``rows`` counts: ``"line"`` of a text file (from 1) or ``"row"`` of a table (from 1).
        files: the files that were read, as they were named.
    """

    texts: list[str]
    labels: list[str]
    name: str
    rows: list[int]
    unit: str = "row"
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.labels) == len(self.rows):
            raise ArgumentError(
                "texts, labels and rows must have one length, "
                f"got {len(self.texts)}, {len(self.labels)} and {len(self.rows)}; give one of each per document."
            )
        if not self.texts:
            raise DataError(f"A data set needs at least one document, got none in {self.name}; check what was read.")
        for index, label in enumerate(self.labels):
            if not label.strip():
                raise DataError(
                    f"Every document needs a label, got none at {self.where(index)}; add it or drop the row."
                )

    def __len__(self) -> int:
        return len(self.texts)

    def where(self, index: int) -> str:
        """Say where document ``index`` came from, as in ``reviews.csv line 12``."""
        return f"{self.name} {self.unit} {self.rows[index]}"

    def label_counts(self) -> dict[str, int]:
        """Count documents per label, the most frequent first, equal counts by name."""
        return dict(sorted(Counter(self.labels).items(), key=lambda item: (-item[1], item[0])))

    def take(self, indices: Iterable[SupportsIndex]) -> "Documents":
        """Return the documents at ``indices``, in that order, with their origin."""
        chosen = [index.__index__() for index in indices]
        return replace(
            self,
            texts=[self.texts[index] for index in chosen],
            labels=[self.labels[index] for index in chosen],
            rows=[self.rows[index] for index in chosen],
        )


def drop_empty(documents: Documents) -> tuple[Documents, list[str]]:
    """Remove documents without text.

    Args:
        documents: what was loaded.

    Returns:
        The documents with at least one character that is not white space, and where each removed one came from.

    Raises:
        DataError: every text is empty.
    """
    kept = [index for index, text in enumerate(documents.texts) if text.strip()]
    if not kept:
        raise DataError(
            f"A data set needs at least one text, got only empty ones in {documents.name}; check the column."
        )
    dropped = [documents.where(index) for index, text in enumerate(documents.texts) if not text.strip()]
    return documents.take(kept), dropped


def normalized(text: str) -> str:
    """Return ``text`` as exact comparison sees it: Unicode NFKC, case folded, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
