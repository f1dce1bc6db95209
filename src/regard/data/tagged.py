"""Sentences of words with a tag for each word, each of which can say where it came from."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import SupportsIndex

from regard._errors import ArgumentError, DataError
from regard.data.documents import normalized
from regard.data.splits import hold_out_groups

__all__ = ["TaggedSentences", "split_tagged"]


@dataclass(frozen=True, kw_only=True)
class TaggedSentences:
    """Sentences, in the order of their source.

    Example:
        >>> news = TaggedSentences(words=[["Ann", "left"]], tags=[["B-PER", "O"]], name="news", rows=[4])
        >>> news.where(0)
        'news line 4'

    Attributes:
        words: per sentence its words, one or more.
        tags: per sentence a tag for each word, never empty.
        name: what a person calls the source, such as a file name.
        rows: number of each sentence in its source, counted as ``unit`` is usually counted there.
        unit: what ``rows`` counts: the ``"line"`` of a file where a sentence begins, or its ``"window"`` (from 1).
        files: the files that were read, as they were named.
        left_out: what of the source is no word here, in words -> how often, such as ``{"comments": 3}``.
    """

    words: list[list[str]]
    tags: list[list[str]]
    name: str
    rows: list[int]
    unit: str = "line"
    files: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.words) == len(self.tags) == len(self.rows):
            raise ArgumentError(
                "words, tags and rows must have one length, "
                f"got {len(self.words)}, {len(self.tags)} and {len(self.rows)}; give one of each per sentence."
            )
        if not self.words:
            raise DataError(f"A data set needs at least one sentence, got none in {self.name}; check what was read.")
        for index, (words, tags) in enumerate(zip(self.words, self.tags, strict=True)):
            if not words or len(words) != len(tags) or not all(tags):
                raise DataError(
                    f"A sentence must have words and a tag for each, got {len(words)} words and "
                    f"{sum(map(bool, tags))} tags at {self.where(index)}; complete it or leave it out."
                )

    def __len__(self) -> int:
        return len(self.words)

    @property
    def num_words(self) -> int:
        """Words of all sentences."""
        return sum(map(len, self.words))

    def where(self, index: int) -> str:
        """Say where sentence ``index`` came from, as in ``train.conll line 12``."""
        return f"{self.name} {self.unit} {self.rows[index]}"

    def tag_counts(self) -> dict[str, int]:
        """Count words per tag, the most frequent first, equal counts by name."""
        counts = Counter(tag for tags in self.tags for tag in tags)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def take(self, indices: Iterable[SupportsIndex]) -> "TaggedSentences":
        """Return the sentences at ``indices``, in that order, with their origin."""
        chosen = [index.__index__() for index in indices]
        return replace(
            self,
            words=[self.words[index] for index in chosen],
            tags=[self.tags[index] for index in chosen],
            rows=[self.rows[index] for index in chosen],
        )


def split_tagged(sentences: TaggedSentences, *, share: float, seed: int) -> tuple[TaggedSentences, TaggedSentences]:
    """Divide sentences into a part to train on and a part held out; equal sentences stay on one side.

    Args:
        sentences: what to divide.
        share: share of the sentences to hold out, in (0, 1), met as near as the groups of equal ones allow.
        seed: the same seed gives the same division.

    Returns:
        The part to train on and the part held out, each in the order of ``sentences``.

    Raises:
        ArgumentError: ``share`` is out of range.
        DataError: there are fewer than two different sentences.
    """
    keys = [normalized(" ".join(words)) for words in sentences.words]
    rest, held = hold_out_groups(keys, share=share, seed=seed, what="sentences", name=sentences.name)
    return sentences.take(rest), sentences.take(held)
