"""From tokens to words: which words of the source each word of a translation looked at, and how much."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["END", "WordLink", "WrittenWord", "split_words", "written_words"]

END = -1
"""Number of the word that stands for the end of a segment, where there are no characters to point at."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, kw_only=True)
class WordLink:
    """A word of the source that a word of the translation looked at.

    Attributes:
        back: which segment it is in: 0 the same, n the n-th before it.
        word: its number there, or ``END``.
        weight: 0 to 1.
    """

    back: int
    word: int
    weight: float


@dataclass(frozen=True, kw_only=True)
class WrittenWord:
    """A word of a translation.

    Attributes:
        text: its characters.
        links: what it looked at, the heaviest first.
        covered: weight that the links have together, 0 to 1.
        own: weight on its own segment, 0 to 1.
    """

    text: str
    links: Sequence[WordLink]
    covered: float
    own: float


def split_words(text: str) -> list[tuple[int, int]]:
    """Return where the words of ``text`` lie, which stand between white space."""
    return [match.span() for match in _WORD.finditer(text)]


def written_words(translation: str, sources: Sequence[str], rows: Mapping[str, npt.NDArray[Any]]) -> list[WrittenWord]:
    """Return the words of a translation with what each looked at.

    The weight *from* a word is the mean over its tokens and the weight *to* a word the sum over its tokens, so that the
    weights of a word still sum to 1 (where all of them were kept).

    Args:
        translation: of one segment.
        sources: its source and those before it, the nearest first, as far as they are known.
        rows: the alignments of that segment, by column.

    References:
        Clark et al., What does BERT look at?, arXiv:1906.04341, section 4.1.
    """
    spans = split_words(translation)
    places = [_word_at(split_words(source)) for source in sources]
    of_word: dict[int, list[int]] = defaultdict(list)
    find = _word_at(spans)
    for row, (start, stop) in enumerate(zip(rows["start"].tolist(), rows["stop"].tolist(), strict=True)):
        if stop > start:
            of_word[find(start)].append(row)
    return [
        _written(translation[start:stop], of_word[number], places, rows) for number, (start, stop) in enumerate(spans)
    ]


def _written(
    text: str, rows_of_word: Sequence[int], places: Sequence[Any], rows: Mapping[str, npt.NDArray[Any]]
) -> WrittenWord:
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for row in rows_of_word:
        for back, start, stop, weight in _entries(rows, row):
            # Where an earlier segment is not at hand its words cannot be named; the weight is still said.
            word = places[back](start) if stop > start and back < len(places) else END
            sums[back, word] += weight / len(rows_of_word)
    links = [WordLink(back=back, word=word, weight=weight) for (back, word), weight in sums.items()]
    covered, own = (float(np.mean(rows[name][rows_of_word])) if rows_of_word else 0.0 for name in ("covered", "own"))
    return WrittenWord(text=text, links=sorted(links, key=lambda one: -one.weight), covered=covered, own=own)


def _entries(rows: Mapping[str, npt.NDArray[Any]], row: int) -> Iterable[tuple[int, int, int, float]]:
    lists = (rows[name][row].tolist() for name in ("backs", "starts", "stops", "weights"))
    return zip(*lists, strict=True)


def _word_at(spans: Sequence[tuple[int, int]]) -> Any:
    """Return what finds the word in which a character lies."""
    starts = [start for start, _ in spans]

    def find(character: int) -> int:
        return max(0, int(np.searchsorted(starts, character, side="right")) - 1) if starts else END

    return find
