"""Batches of documents of similar length, so that almost nothing of a batch is padding.

An epoch's batches are a pure function of the seed and the epoch: a run that stops can go on with the very batch that
came next.

References:
    Khomenko et al., "Accelerating recurrent neural network training using sequence bucketing", arXiv 1708.05604.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError

__all__ = ["LengthGroupedBatches", "padding_share", "sorted_batches"]

_Lengths = npt.NDArray[np.int64]


class LengthGroupedBatches:
    """Random batches whose documents have about the same length.

    Each epoch shuffles the documents, sorts them by length within large chunks, cuts batches and shuffles those.
    Small chunks are more random and pad more.

    Example:
        >>> groups = LengthGroupedBatches([3, 9, 4, 8], batch_size=2, seed=0)
        >>> sorted(sorted(batch) for batch in groups.batches(0))
        [[0, 2], [1, 3]]
        >>> groups.batches(0) == groups.batches(0)
        True

    Args:
        lengths: tokens of each document as the model will see it, at least 1.
        batch_size: documents in a batch; the last one of an epoch may be smaller. Exactly one of ``batch_size`` and
            ``tokens_per_batch`` is given.
        tokens_per_batch: most tokens in a batch, padding included: documents times the longest of them.
        seed: the same seed gives the same batches.
        batches_per_chunk: about how many batches one sorted chunk yields.

    Raises:
        ArgumentError: not exactly one of the two sizes is given, a size or length is too small, or a document alone
            is longer than ``tokens_per_batch``.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        seed: int = 0,
        batches_per_chunk: int = 100,
    ) -> None:
        if batches_per_chunk < 1:
            raise ArgumentError(f"batches_per_chunk must be at least 1, got {batches_per_chunk}.")
        self._lengths = _checked(lengths, batch_size, tokens_per_batch)
        self._batch_size = batch_size
        self._tokens_per_batch = tokens_per_batch
        self._seed = seed
        self._chunk = _chunk(self._lengths, batch_size, tokens_per_batch, batches_per_chunk)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of ``epoch`` (from 0): every document's index exactly once."""
        generator = np.random.default_rng([self._seed, epoch])
        shuffled = generator.permutation(len(self._lengths))
        batches: list[list[int]] = []
        for first in range(0, len(shuffled), self._chunk):
            chunk = shuffled[first : first + self._chunk]
            order = chunk[np.argsort(self._lengths[chunk], kind="stable")]
            batches += _cut(order, self._lengths, self._batch_size, self._tokens_per_batch)
        return [batches[number] for number in generator.permutation(len(batches))]


def sorted_batches(
    lengths: Sequence[int], *, batch_size: int | None = None, tokens_per_batch: int | None = None
) -> tuple[list[list[int]], npt.NDArray[np.int64]]:
    """Return batches for evaluation, longest documents first, and how to undo their order.

    The longest come first so that a batch too large for memory fails at once.

    Args:
        lengths: tokens of each document, at least 1.
        batch_size: documents in a batch; exactly one of the two sizes is given.
        tokens_per_batch: most tokens in a batch, padding included.

    Returns:
        The batches, and ``inverse`` (num_documents,) int64: with the outputs of all batches one after another,
        ``outputs[inverse]`` is in the order of ``lengths``.

    Raises:
        ArgumentError: as for ``LengthGroupedBatches``.
    """
    checked = _checked(lengths, batch_size, tokens_per_batch)
    order = np.argsort(-checked, kind="stable")
    return _cut(order, checked, batch_size, tokens_per_batch), np.argsort(order, kind="stable").astype(np.int64)


def padding_share(batches: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """Return the share of padding in ``batches``, each padded to its longest document, in [0, 1)."""
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    real = sum(lengths[index] for batch in batches for index in batch)
    return 1 - real / padded


def _checked(lengths: Sequence[int], batch_size: int | None, tokens_per_batch: int | None) -> _Lengths:
    if (batch_size is None) == (tokens_per_batch is None):
        raise ArgumentError(
            "Exactly one of batch_size and tokens_per_batch must be given, "
            f"got batch_size={batch_size} and tokens_per_batch={tokens_per_batch}."
        )
    checked = np.asarray(lengths, dtype=np.int64)
    if not checked.size or checked.min() < 1:
        shortest = int(checked.min()) if checked.size else "no document"
        raise ArgumentError(f"lengths must hold a length of at least 1 per document, got {shortest}.")
    if batch_size is not None and batch_size < 1:
        raise ArgumentError(f"batch_size must be at least 1, got {batch_size}.")
    if tokens_per_batch is not None and tokens_per_batch < checked.max():
        raise ArgumentError(
            f"tokens_per_batch must hold the longest document, got {tokens_per_batch} for {int(checked.max())} tokens; "
            "raise it or truncate."
        )
    return checked


def _chunk(lengths: _Lengths, batch_size: int | None, tokens_per_batch: int | None, batches_per_chunk: int) -> int:
    """Return the documents in a chunk, so that chunks are of one size: a short last one would pad the most."""
    per_batch = batch_size or max(1, (tokens_per_batch or 0) // int(lengths.mean()))
    num_batches = -(-len(lengths) // per_batch)
    num_chunks = max(1, round(num_batches / batches_per_chunk))
    return -(-num_batches // num_chunks) * per_batch


def _cut(
    order: np.ndarray[Any, np.dtype[np.int64]], lengths: _Lengths, batch_size: int | None, tokens_per_batch: int | None
) -> list[list[int]]:
    indices = order.tolist()
    if batch_size is not None:
        return [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
    batches: list[list[int]] = []
    longest = 0
    for index in indices:
        longest = max(longest, int(lengths[index]))
        if not batches or (len(batches[-1]) + 1) * longest > (tokens_per_batch or 0):
            batches.append([])
            longest = int(lengths[index])
        batches[-1].append(index)
    return batches
