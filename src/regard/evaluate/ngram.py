"""N-gram language models: how far a text can be predicted by counting, which a neural model has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError

__all__ = ["NGram"]

_Ids = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Order:
    """Counts of the contexts of one length, and of what followed each.

    A context is known by a number: its rank among the sorted pairs of the number of the context without its first
    token and that token.
    """

    keys: _Ids  # (contexts,) sorted
    totals: _Floats  # (contexts,) how often each was followed by anything
    kinds: _Floats  # (contexts,) by how many different tokens
    pairs: _Ids  # (pairs,) sorted: context number · vocab_size + token
    counts: _Floats  # (pairs,)


class NGram:
    """Interpolated n-grams with Witten–Bell smoothing.

    P_n(w | h) = (count(h w) + kinds(h) · P_(n-1)(w | h')) / (count(h) + kinds(h)), where h' is h without its first
    token and kinds(h) how many different tokens followed h; P_0 is uniform. A context that was never seen leaves the
    word to the shorter one.

    Args:
        ids: the training text, token numbers from 0 to ``vocab_size`` - 1.
        vocab_size: number of tokens.
        order: the longest n-gram, 1 for single tokens.

    Raises:
        ArgumentError: an order below 1, or a token outside of the vocabulary.
        DataError: the text is shorter than an n-gram.

    References:
        Witten and Bell, The zero-frequency problem (1991); Chen and Goodman, An empirical study of smoothing
        techniques for language modeling (1998), section 2.7.

    Example:
        >>> model = NGram([0, 1, 0, 1, 0, 1], vocab_size=2, order=2)
        >>> float(np.exp(-model.nats([0, 1]))[1]) > 0.8
        True
    """

    def __init__(self, ids: Sequence[int] | _Ids, *, vocab_size: int, order: int) -> None:
        tokens = self._checked(ids, vocab_size)
        if order < 1:
            raise ArgumentError(f"order must be at least 1, got {order}.")
        if len(tokens) < order:
            raise DataError(f"Counting {order}-grams needs as many tokens, got a text of {len(tokens)}.")
        self._vocab_size = vocab_size
        self._orders: list[_Order] = []
        contexts = np.zeros(len(tokens), dtype=np.int64)
        for length in range(order):
            if length:
                contexts = self._longer(contexts, tokens, length)
            self._orders.append(self._count(contexts[length:], tokens[length:]))
            contexts = self._numbers(self._orders[-1].keys, contexts)

    def nats(self, ids: Sequence[int] | _Ids, *, order: int | None = None) -> _Floats:
        """Return -log P of each token given those before it in ``ids``, (tokens,).

        Args:
            ids: the text to predict; its first tokens have shorter contexts.
            order: use n-grams up to this length only; None for all.
        """
        tokens = self._checked(ids, self._vocab_size)
        chance = np.full(len(tokens), 1.0 / self._vocab_size)
        contexts = np.zeros(len(tokens), dtype=np.int64)
        for length, found in enumerate(self._orders[:order]):
            if length:
                contexts = self._longer(contexts, tokens, length)
            contexts = self._numbers(found.keys, contexts)
            seen = contexts >= 0
            place = np.searchsorted(found.pairs, pairs := contexts * self._vocab_size + tokens)
            place = np.minimum(place, len(found.pairs) - 1)
            counts = np.where(seen & (found.pairs[place] == pairs), found.counts[place], 0.0)
            totals, kinds = found.totals[contexts], found.kinds[contexts]
            chance = np.where(seen, (counts + kinds * chance) / (totals + kinds), chance)
        nats: _Floats = -np.log(chance)
        return nats

    def _longer(self, contexts: _Ids, tokens: _Ids, length: int) -> _Ids:
        """Return the pairs of the number of a context and the token before it; -1 where either is not there."""
        longer = np.full(len(tokens), -1, dtype=np.int64)
        before = tokens[: len(tokens) - length]
        known = contexts[length:] >= 0
        longer[length:] = np.where(known, contexts[length:] * self._vocab_size + before, -1)
        return longer

    @staticmethod
    def _numbers(keys: _Ids, contexts: _Ids) -> _Ids:
        """Return the rank of each context among ``keys``, -1 for one that is not among them."""
        place = np.minimum(np.searchsorted(keys, contexts), len(keys) - 1)
        return np.where((contexts >= 0) & (keys[place] == contexts), place, -1)

    def _count(self, contexts: _Ids, tokens: _Ids) -> _Order:
        keys, numbers = np.unique(contexts, return_inverse=True)
        pairs, counts = np.unique(numbers * self._vocab_size + tokens, return_counts=True)
        owners = pairs // self._vocab_size
        return _Order(
            keys=keys,
            totals=np.bincount(owners, weights=counts, minlength=len(keys)).astype(np.float64),
            kinds=np.bincount(owners, minlength=len(keys)).astype(np.float64),
            pairs=pairs,
            counts=counts.astype(np.float64),
        )

    @staticmethod
    def _checked(ids: Sequence[int] | _Ids, vocab_size: int) -> _Ids:
        tokens = np.asarray(ids, dtype=np.int64)
        if tokens.ndim != 1 or not len(tokens):
            raise DataError(f"A text must be one list of tokens, one or more, got an array of shape {tokens.shape}.")
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise ArgumentError(
                f"Tokens must lie in [0, {vocab_size}), got {int(tokens.min())} to {int(tokens.max())}."
            )
        return tokens
