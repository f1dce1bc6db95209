"""Sentences of words as the token numbers of their pieces, cut into windows that a model can read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regard._errors import ArgumentError
from regard.data.tokens import Tokenizer, WordPieces

__all__ = ["WordWindows", "encode_words"]


@dataclass(frozen=True, kw_only=True)
class WordWindows:
    """Windows of sentences, in their order: a sentence that is short enough is one, a longer one several.

    Attributes:
        ids: per window its token numbers, special ones included.
        first_pieces: per window the place of the first piece of each of its words. Every word is in one window.
        sentences: per window the sentence that it is of.
        lengths: per sentence its number of tokens before it was cut, special tokens included.
        num_cut_words: words that alone are longer than a window and lost their last pieces.
    """

    ids: list[list[int]]
    first_pieces: list[list[int]]
    sentences: list[int]
    lengths: list[int]
    num_cut_words: int

    @property
    def num_cut_sentences(self) -> int:
        """Sentences that are read in more than one window."""
        return sum(times > 1 for times in Counter(self.sentences).values())


def encode_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], max_len: int) -> WordWindows:
    """Turn sentences of words into windows of at most ``max_len`` tokens that end between words.

    Args:
        tokenizer: cuts each word into pieces.
        sentences: of one word or more each.
        max_len: most tokens of a window, special ones included.

    Raises:
        ArgumentError: ``max_len`` leaves no room for a token beside the special ones, or a sentence has no word.
    """
    ids: list[list[int]] = []
    first_pieces: list[list[int]] = []
    owners: list[int] = []
    lengths: list[int] = []
    num_cut = 0
    for number, found in enumerate(tokenizer.encode_words(sentences)):
        room = max_len - len(found.before) - len(found.after)
        if room < 1:
            raise ArgumentError(
                f"max_len must be greater than the {len(found.before) + len(found.after)} special tokens, got "
                f"{max_len}; 128 suits most sentences."
            )
        if not found.words:
            raise ArgumentError(f"Each sentence must have a word, got none in sentence {number}.")
        lengths.append(max_len - room + sum(map(len, found.words)))
        num_cut += sum(len(pieces) > room for pieces in found.words)
        for words in _cut(found, room):
            first_pieces.append(_first_places(words, len(found.before)))
            ids.append([*found.before, *(piece for pieces in words for piece in pieces), *found.after])
            owners.append(number)
    return WordWindows(ids=ids, first_pieces=first_pieces, sentences=owners, lengths=lengths, num_cut_words=num_cut)


def _cut(found: WordPieces, room: int) -> Iterator[list[list[int]]]:
    """Yield the words of each window; a word that is longer than one alone keeps its beginning."""
    words: list[list[int]] = []
    used = 0
    for pieces in found.words:
        kept = pieces[:room]
        if words and used + len(kept) > room:
            yield words
            words, used = [], 0
        words.append(kept)
        used += len(kept)
    yield words


def _first_places(words: Sequence[Sequence[int]], start: int) -> list[int]:
    places = []
    for pieces in words:
        places.append(start)
        start += len(pieces)
    return places
