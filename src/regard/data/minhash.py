"""Near-duplicate texts: MinHash signatures, banded look-up, then the exact Jaccard similarity of what was found.

References:
    Broder, "On the resemblance and containment of documents", SEQUENCES 1997 (shingles, MinHash).
    Indyk and Motwani, "Approximate nearest neighbors", STOC 1998 (locality-sensitive hashing).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError
from regard.data.documents import normalized

__all__ = ["NearDuplicates", "near_duplicates"]

_Hashes = npt.NDArray[np.uint64]
_Indices = npt.NDArray[np.int64]

_SHINGLE_WORDS = 5
_NUM_PERMUTATIONS = 128
_ROWS_PER_BAND = 4
# 32 bands of 4: a pair with Jaccard J shares a band with probability 1 - (1 - J^4)^32, above 1 - 1e-7 for J = 0.8.
_SLACK = 4.0  # standard errors by which a signature may underestimate before its pair is ruled out
_NEIGHBOURS = 64  # members of one bucket that each member is compared with
_SEED = 1997

# Scripts without spaces between words count one character as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pairs of texts that are nearly the same.

    Attributes:
        pairs: indices (num_pairs, 2), int64, the smaller first, in ascending order.
        jaccard: exact similarity of each pair's sets of word 5-shingles, float64 in [threshold, 1].
        num_unchecked: pairs that shared a bucket too large to compare all of it; 0 unless the texts are templates.
    """

    pairs: _Indices
    jaccard: npt.NDArray[np.float64]
    num_unchecked: int


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.8) -> NearDuplicates:
    """Find pairs of texts whose sets of word 5-shingles have a Jaccard similarity of at least ``threshold``.

    A text of fewer than five words is one shingle; a text without words matches nothing. Case, white space and
    punctuation do not count. The answer depends on nothing but the texts.

    Args:
        texts: the documents; exact duplicates are found too, but a caller with many should pass each once.
        threshold: lowest similarity that counts, in [0.7, 1]; the bands would miss pairs below.

    Returns:
        The pairs, each verified exactly; a pair at 0.8 is missed with a probability below 1e-4, one at 0.7 below 1e-3.

    Raises:
        ArgumentError: ``threshold`` is outside [0.7, 1].
    """
    if not 0.7 <= threshold <= 1:
        raise ArgumentError(f"threshold must lie in [0.7, 1], got {threshold}; 0.8 is usual for near-duplicates.")
    shingles, starts, owners = _shingles(texts)
    if len(owners) < 2:
        return NearDuplicates(pairs=np.empty((0, 2), np.int64), jaccard=np.empty(0), num_unchecked=0)
    signatures = _signatures(shingles, starts)
    candidates, num_unchecked = _candidates(signatures)
    error = np.sqrt(threshold * (1 - threshold) / _NUM_PERMUTATIONS)
    candidates = candidates[_agreement(signatures, candidates) >= threshold - _SLACK * error]
    jaccard = _jaccard(shingles, starts, candidates)
    close = jaccard >= threshold
    return NearDuplicates(pairs=owners[candidates[close]], jaccard=jaccard[close], num_unchecked=num_unchecked)


def _shingles(texts: Sequence[str]) -> tuple[_Hashes, _Indices, _Indices]:
    """Hash the shingles of all texts that have words: (hashes, first hash of each text, index of each text)."""
    numbers: dict[str, int] = {"": 0}
    flat: list[int] = []
    lengths: list[int] = []
    owners: list[int] = []
    for index, text in enumerate(texts):
        words = _WORD.findall(normalized(text))
        if words:
            words += [""] * (_SHINGLE_WORDS - len(words))
            flat += [numbers.setdefault(word, len(numbers)) for word in words]
            lengths.append(len(words))
            owners.append(index)
    digests = b"".join(
        hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in numbers
    )
    words_of = np.frombuffer(digests, dtype="<u8").astype(np.uint64)[np.asarray(flat, dtype=np.int64)]
    rolled = np.zeros(max(len(flat) - _SHINGLE_WORDS + 1, 0), dtype=np.uint64)
    for offset, factor in enumerate(_odd(_SHINGLE_WORDS, _SEED)):
        rolled += words_of[offset : offset + len(rolled)] * factor
    ends = np.cumsum(np.asarray(lengths, dtype=np.int64))
    whole = np.ones(len(flat), dtype=bool)
    for back in range(1, _SHINGLE_WORDS):
        whole[ends - back] = False  # a shingle that begins here would run into the next text
    starts = ends - np.asarray(lengths, dtype=np.int64) - (_SHINGLE_WORDS - 1) * np.arange(len(ends), dtype=np.int64)
    return _mixed(rolled[whole[: len(rolled)]]), starts, np.asarray(owners, dtype=np.int64)


def _mixed(values: _Hashes) -> _Hashes:
    """Spread every input bit over every output bit (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _odd(count: int, seed: int) -> _Hashes:
    drawn = np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64, endpoint=False)
    return drawn | np.uint64(1)


def _signatures(shingles: _Hashes, starts: _Indices) -> _Hashes:
    """Return per text the least shingle hash under each permutation, (num_texts, num_permutations)."""
    signatures = np.empty((len(starts), _NUM_PERMUTATIONS), dtype=np.uint64)
    factors, offsets = _odd(_NUM_PERMUTATIONS, _SEED + 1), _odd(_NUM_PERMUTATIONS, _SEED + 2)
    for column in range(_NUM_PERMUTATIONS):
        # An odd factor and an offset permute the 64-bit numbers; overflow wraps, which is the arithmetic meant here.
        signatures[:, column] = np.minimum.reduceat((shingles ^ offsets[column]) * factors[column], starts)
    return signatures


def _candidates(signatures: _Hashes) -> tuple[_Indices, int]:
    """Return the pairs that agree on a whole band, (num_pairs, 2), and how many pairs a large bucket left out."""
    found: list[_Indices] = []
    num_unchecked = 0
    for first in range(0, _NUM_PERMUTATIONS, _ROWS_PER_BAND):
        keys = np.zeros(len(signatures), dtype=np.uint64)
        for column in range(first, first + _ROWS_PER_BAND):
            keys = _mixed(keys * np.uint64(31) + signatures[:, column])
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for distance in range(1, _NEIGHBOURS + 1):
            same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            if not len(same):
                break
            found.append(np.stack([order[same], order[same + distance]], axis=1))
        sizes = np.unique(ordered, return_counts=True)[1]
        beyond = np.maximum(sizes - 1 - _NEIGHBOURS, 0)
        num_unchecked += int((beyond * (beyond + 1) // 2).sum())
    if not found:
        return np.empty((0, 2), np.int64), num_unchecked
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0), num_unchecked


def _agreement(signatures: _Hashes, pairs: _Indices, *, block: int = 65536) -> npt.NDArray[np.float64]:
    """Estimate each pair's similarity as the share of permutations on which the signatures agree."""
    agreement = np.empty(len(pairs))
    for first in range(0, len(pairs), block):
        left, right = pairs[first : first + block].T
        agreement[first : first + block] = (signatures[left] == signatures[right]).mean(axis=1)
    return agreement


def _jaccard(shingles: _Hashes, starts: _Indices, pairs: _Indices) -> npt.NDArray[np.float64]:
    ends = np.append(starts[1:], len(shingles))
    sets = {int(text): np.unique(shingles[starts[text] : ends[text]]) for text in np.unique(pairs)}
    jaccard = np.empty(len(pairs))
    for number, (left, right) in enumerate(pairs.tolist()):
        one, other = sets[left], sets[right]
        both = len(np.intersect1d(one, other, assume_unique=True))
        jaccard[number] = both / (len(one) + len(other) - both)
    return jaccard
