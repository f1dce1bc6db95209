"""What a tagger has to beat: the most frequent tag of each word, and the most frequent of all."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from regard._errors import DataError

__all__ = ["MAJORITY_TAG", "WORD_TAGS", "WordTags"]

WORD_TAGS = "most frequent tag of each word"
MAJORITY_TAG = "most frequent tag"


class WordTags:
    """Names the most frequent tag of each word of the training sentences, whatever stands around it.

    A word that was not seen in training gets the most frequent tag of those that were seen once, which it resembles
    most. Of tags that are equally frequent the one that is so over all words is taken, then the first by name.

    Args:
        words: per sentence of the training split its words.
        tags: per sentence a tag for each.

    Raises:
        DataError: there is no word.

    References:
        Jurafsky and Martin, Speech and Language Processing, section 17.2, for the baseline.

    Example:
        >>> known = WordTags([["a", "dog", "runs"], ["a", "run"]], [["D", "N", "V"], ["D", "N"]])
        >>> known.tag([["a", "cat"]])
        [['D', 'N']]
    """

    def __init__(self, words: Iterable[Sequence[str]], tags: Iterable[Sequence[str]]) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        overall: Counter[str] = Counter()
        for sentence, its_tags in zip(words, tags, strict=True):
            for word, tag in zip(sentence, its_tags, strict=True):
                counts[word][tag] += 1
                overall[tag] += 1
        if not counts:
            raise DataError("Tags of words can only be counted where there are words, got none; check the split.")
        self.majority = _most(overall, overall)
        self._tags = {word: _most(seen, overall) for word, seen in counts.items()}
        once = Counter(next(iter(seen)) for seen in counts.values() if seen.total() == 1)
        self.unknown = _most(once, overall) if once else self.majority

    def __len__(self) -> int:
        return len(self._tags)

    def tag(self, sentences: Iterable[Sequence[str]]) -> list[list[str]]:
        """Return a tag for each word."""
        return [[self._tags.get(word, self.unknown) for word in words] for words in sentences]


def _most(counts: Mapping[str, int], overall: Mapping[str, int]) -> str:
    return min(counts, key=lambda tag: (-counts[tag], -overall[tag], tag))
