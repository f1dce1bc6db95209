"""Batches of pairs whose sources are about as long as each other and whose targets are, too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError

__all__ = ["PairBatches", "pair_padding_share"]

_Lengths = npt.NDArray[np.int64]


class PairBatches:
    """Random batches of pairs, sorted by the length of the target and then of the source, cut by a number of tokens.

    Pairs of the same two lengths are shuffled in each epoch, and so are the batches. Where the cuts fall depends on the
    lengths alone, so every epoch has the same number of batches.

    Example:
        >>> groups = PairBatches([3, 9, 4, 8], [3, 8, 3, 9], tokens_per_batch=18, seed=0)
        >>> sorted(sorted(batch) for batch in groups.batches(0))
        [[0, 2], [1, 3]]
        >>> groups.batches(0) == groups.batches(0)
        True

    Args:
        source_lengths: tokens of each source as the model will see it, at least 1.
        target_lengths: tokens of each target, at least 1.
        tokens_per_batch: most tokens of a batch on either side, padding included: pairs times the longest of them.
        seed: the same seed gives the same batches.

    Raises:
        ArgumentError: the sides have not one length per pair, a length is below 1, or a pair alone is longer than
            ``tokens_per_batch``.

    References:
        Ott et al., Scaling neural machine translation, arXiv:1806.00187, for batches by tokens.
    """

    def __init__(
        self, source_lengths: Sequence[int], target_lengths: Sequence[int], *, tokens_per_batch: int, seed: int = 0
    ) -> None:
        source, target = _checked(source_lengths, "source"), _checked(target_lengths, "target")
        if len(source) != len(target):
            raise ArgumentError(
                f"Both sides must have one length per pair, got {len(source)} of sources and {len(target)} of targets."
            )
        longest = int(max(source.max(), target.max()))
        if tokens_per_batch < longest:
            raise ArgumentError(
                f"tokens_per_batch must hold the longest pair, got {tokens_per_batch} for {longest} tokens; "
                "raise it or truncate."
            )
        self._source, self._target, self._seed = source, target, seed
        order = np.lexsort((source, target))
        self._cuts = _cuts(np.maximum(source, target)[order].tolist(), tokens_per_batch)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self._cuts) - 1

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of ``epoch`` (from 0): every pair's index exactly once."""
        generator = np.random.default_rng([self._seed, epoch])
        order = np.lexsort((generator.random(len(self._source)), self._source, self._target)).tolist()
        return [order[self._cuts[n] : self._cuts[n + 1]] for n in generator.permutation(len(self)).tolist()]


def pair_padding_share(
    batches: Sequence[Sequence[int]], source_lengths: Sequence[int], target_lengths: Sequence[int]
) -> float:
    """Return the share of padding on both sides of ``batches``, each side padded to its longest, in [0, 1)."""
    padded = real = 0
    for lengths in (source_lengths, target_lengths):
        padded += sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
        real += sum(lengths[index] for batch in batches for index in batch)
    return 1 - real / padded


def _checked(lengths: Sequence[int], side: str) -> _Lengths:
    checked = np.asarray(lengths, dtype=np.int64)
    if not checked.size or checked.min() < 1:
        shortest = int(checked.min()) if checked.size else "no pair"
        raise ArgumentError(f"{side}_lengths must hold a length of at least 1 per pair, got {shortest}.")
    return checked


def _cuts(lengths: Sequence[int], tokens_per_batch: int) -> list[int]:
    """Return where batches begin in a sorted list, and its end."""
    cuts, longest = [0], 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if (place - cuts[-1] + 1) * longest > tokens_per_batch:
            cuts.append(place)
            longest = length
    return [*cuts, len(lengths)]
