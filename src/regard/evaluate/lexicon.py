"""Word-by-word translation with a lexicon learnt by counting: what a translation model has to beat."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError

__all__ = ["LEXICON", "Lexicon"]

LEXICON = "word by word (IBM model 1)"

_WORD = re.compile(r"\w+|[^\w\s]")
_NOTHING = "\0"
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class Lexicon:
    """For each source word the target word that it most probably gives, by IBM model 1.

    Model 1 supposes that each target word is the translation of one source word, or of none, whichever with the same
    chance, and finds p(target | source) by expectation maximisation; its likelihood has one maximum, so there is
    nothing to tune. Words are runs of letters and digits; every other character is a word of its own.

    Args:
        source: texts.
        target: their translations.
        iterations: of expectation maximisation.

    Raises:
        ArgumentError: the sides have not the same number of texts, or there is no iteration.
        DataError: no pair has a word on both sides.

    References:
        Brown et al., The mathematics of statistical machine translation (1993), section 4.

    Example:
        >>> lexicon = Lexicon(["the dog", "the cat"], ["der Hund", "der Kater"])
        >>> lexicon.translate(["the cat, the dog"])
        ['der Kater, der Hund']
    """

    def __init__(self, source: Sequence[str], target: Sequence[str], *, iterations: int = 8) -> None:
        if len(source) != len(target) or iterations < 1:
            raise ArgumentError(
                "A lexicon needs one target for each source and an iteration or more, got "
                f"{len(source)} sources, {len(target)} targets and {iterations} iterations."
            )
        pairs = [(_words(a), _words(b)) for a, b in zip(source, target, strict=True)]
        pairs = [(a, b) for a, b in pairs if a and b]
        if not pairs:
            raise DataError("A lexicon needs a pair with a word on both sides, got none; check what was read.")
        known, written = _numbers(a for a, _ in pairs), _numbers(b for _, b in pairs)
        links = _Links(pairs, known, written)
        chances = links.learnt(iterations)
        # The most probable target of each source word: the last of its entries when they are sorted by probability.
        order = np.lexsort((-links.targets, chances, links.sources))
        last = np.flatnonzero(np.diff(links.sources[order], append=-1))
        names, targets = list(known), list(written)
        self._best = {names[links.sources[at]]: targets[links.targets[at]] for at in order[last]}

    def __len__(self) -> int:
        """Return the number of source words that have a translation."""
        return len(self._best) - 1

    def translate(self, texts: Iterable[str]) -> list[str]:
        """Return each text word by word in its order; a word that was never seen stays as it is."""
        return [_joined([self._best.get(word, word) for word in _words(text)]) for text in texts]


class _Links:
    """All pairs of a source word and a target word that stand in one sentence pair, and the pairs of their kinds.

    Attributes:
        sources: source word of each kind of pair.
        targets: target word of each kind of pair.
    """

    def __init__(
        self, pairs: Sequence[tuple[list[str], list[str]]], known: dict[str, int], written: dict[str, int]
    ) -> None:
        keys, sizes = [], []
        for source, target in pairs:
            left = np.array([known[word] for word in (_NOTHING, *source)])
            right = np.array([written[word] for word in target])
            keys.append((left * len(written) + right[:, None]).ravel())
            sizes.append(np.full(len(right), len(left)))
        kinds, kind = np.unique(np.concatenate(keys), return_inverse=True)
        self._kind = kind.astype(np.int32)
        self._sizes = np.concatenate(sizes)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self.sources, self.targets = kinds // len(written), kinds % len(written)

    def learnt(self, iterations: int) -> _Floats:
        """Return p(target word | source word) of each kind of pair."""
        chances = np.ones(len(self.sources))
        for _ in range(iterations):
            linked = chances[self._kind]
            linked /= np.repeat(np.add.reduceat(linked, self._starts), self._sizes)
            counts = np.bincount(self._kind, weights=linked, minlength=len(chances))
            chances = counts / np.bincount(self.sources, weights=counts)[self.sources]
        return chances


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _numbers(texts: Iterable[list[str]]) -> dict[str, int]:
    return {word: number for number, word in enumerate(dict.fromkeys([_NOTHING, *(w for text in texts for w in text)]))}


def _joined(words: Sequence[str]) -> str:
    """Return words with spaces between them, save before closing punctuation."""
    return re.sub(r" ([.,;:!?)\]])", r"\1", " ".join(words))
