"""Long-range probes: tasks of no use but one, to ask what a network still knows of what it read long ago.

Every probe has a distance: how many places lie between what is to be remembered and where it is asked for. A network
that is trained on all distances up to some length gives one curve of accuracy against distance, which says how far it
reaches and not how well it knows a language.

References:
    Hochreiter and Schmidhuber, Long short-term memory (Neural Computation 1997), experiment 4 (adding); Arjovsky et
    al., Unitary evolution recurrent neural networks, arXiv:1511.06464 (copy); Graves et al., Neural Turing machines,
    arXiv:1410.5401, and Arora et al., Zoology, arXiv:2312.04927 (associative recall).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError

__all__ = ["ADDING_TOLERANCE", "PROBES", "PROBE_TOKENS", "Probe", "adding", "associative_recall", "copy", "needle"]

PROBE_TOKENS = 64
"""Token ids of the probes of tokens: 0 stands for nothing, 1 marks, the others are symbols."""
ADDING_TOLERANCE = 0.04
"""Largest error of a sum that counts as right, as in the paper."""

_NOTHING, _MARK, _FIRST = 0, 1, 2
_NUM_COPIED = 8
_NUM_PAIRS = 8

_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One batch of a probe, all rows of one distance.

    Attributes:
        name: of the probe.
        distance: places between what is to be remembered and the answer; in associative recall the shortest of them.
        inputs: int64 (rows, len) token ids, or float32 (rows, len, 2) numbers and marks.
        targets: what is to be answered, (rows, answers), int64 token ids or float32.
        places: int64 (rows, answers), the place at which each answer is due: a network answers what follows it.
        sources: int64 (rows,), the place of what the first answer asks for.
    """

    name: str
    distance: int
    inputs: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]
    places: _Ids
    sources: _Ids

    @property
    def is_numeric(self) -> bool:
        """Whether numbers are read and answered, not tokens."""
        return self.inputs.ndim == 3


def copy(num_rows: int, *, distance: int, seed: int | tuple[int, ...]) -> Probe:
    """Write down eight symbols again, ``distance`` places after each was read.

    A mark, eight different symbols, nothing for a while, the mark again; there the first symbol is due, and at each
    symbol the next.

    Example:
        >>> probe = copy(1, distance=10, seed=0)
        >>> probe.inputs[0, :9].tolist() == [1, *probe.targets[0].tolist()]
        True

    Raises:
        ArgumentError: no row, or a distance too short for the symbols.
    """
    generator = _generator(num_rows, distance, seed, least=_NUM_COPIED)
    symbols = _different(generator, num_rows, _NUM_COPIED, PROBE_TOKENS - _FIRST) + _FIRST
    inputs = np.full((num_rows, distance + 1 + _NUM_COPIED), _NOTHING, dtype=np.int64)
    inputs[:, 0] = inputs[:, distance + 1] = _MARK
    inputs[:, 1 : 1 + _NUM_COPIED] = symbols
    inputs[:, distance + 2 :] = symbols[:, :-1]
    places = distance + 1 + np.arange(_NUM_COPIED)
    return Probe(
        name="copy",
        distance=distance,
        inputs=inputs,
        targets=symbols,
        places=np.tile(places, (num_rows, 1)),
        sources=np.ones(num_rows, dtype=np.int64),
    )


def associative_recall(num_rows: int, *, distance: int, seed: int | tuple[int, ...]) -> Probe:
    """Name the value of a key, at least ``distance`` places after the pair was read.

    Eight pairs of a key and a value, nothing for a while, then all keys in another order, each followed by nothing; its
    value is due at the key. Keys of a row differ, values may not. Were the values shown behind the keys, naming any
    that was not shown yet would be right in 0.34 of cases, and a network may settle for that.

    Raises:
        ArgumentError: no row, or a distance too short for the pairs.
    """
    generator = _generator(num_rows, distance, seed, least=2 * _NUM_PAIRS)
    num_symbols = (PROBE_TOKENS - _FIRST) // 2
    keys = _different(generator, num_rows, _NUM_PAIRS, num_symbols) + _FIRST
    values = generator.integers(num_symbols, size=keys.shape) + _FIRST + num_symbols
    order = generator.permuted(np.tile(np.arange(_NUM_PAIRS), (num_rows, 1)), axis=1)
    asked, answers = np.take_along_axis(keys, order, 1), np.take_along_axis(values, order, 1)
    begin = distance + 2 * _NUM_PAIRS - 1  # the last pair's value lies `distance` before the first question
    inputs = np.full((num_rows, begin + 2 * _NUM_PAIRS - 1), _NOTHING, dtype=np.int64)
    inputs[:, : 2 * _NUM_PAIRS : 2], inputs[:, 1 : 2 * _NUM_PAIRS : 2] = keys, values
    inputs[:, begin::2] = asked
    places = begin + 2 * np.arange(_NUM_PAIRS)
    return Probe(
        name="associative recall",
        distance=distance,
        inputs=inputs,
        targets=answers,
        places=np.tile(places, (num_rows, 1)),
        sources=2 * order[:, 0] + 1,
    )


def adding(num_rows: int, *, distance: int, seed: int | tuple[int, ...]) -> Probe:
    """Add the two marked numbers of a sequence, the first of which was read ``distance`` places ago.

    Numbers are uniform in [0, 1]; the first number and one other, at a random place, are marked. Answering 1 always
    has a mean squared error of 1/6.

    Raises:
        ArgumentError: no row, or a distance without room for two numbers.
    """
    generator = _generator(num_rows, distance, seed, least=1)
    inputs = np.zeros((num_rows, distance + 1, 2), dtype=np.float32)
    inputs[:, :, 0] = generator.random((num_rows, distance + 1))
    second = generator.integers(1, distance + 1, size=num_rows)
    inputs[:, 0, 1] = 1
    inputs[np.arange(num_rows), second, 1] = 1
    sums = inputs[:, 0, 0] + inputs[np.arange(num_rows), second, 0]
    return Probe(
        name="adding",
        distance=distance,
        inputs=inputs,
        targets=sums[:, None],
        places=np.full((num_rows, 1), distance, dtype=np.int64),
        sources=np.zeros(num_rows, dtype=np.int64),
    )


def needle(num_rows: int, *, distance: int, seed: int | tuple[int, ...]) -> Probe:
    """Name the symbol that stood behind the mark, ``distance`` places ago, among symbols that do not matter.

    Half as many symbols again stand before the mark. The last token is the mark again, at which the symbol is due.

    Raises:
        ArgumentError: no row, or a distance below 1.
    """
    generator = _generator(num_rows, distance, seed, least=1)
    before = distance // 2
    inputs = generator.integers(_FIRST, PROBE_TOKENS, size=(num_rows, before + 2 + distance))
    inputs[:, before] = inputs[:, -1] = _MARK
    source = before + 1
    return Probe(
        name="needle",
        distance=distance,
        inputs=inputs,
        targets=inputs[:, [source]],
        places=np.full((num_rows, 1), source + distance, dtype=np.int64),
        sources=np.full(num_rows, source, dtype=np.int64),
    )


PROBES: dict[str, Callable[..., Probe]] = {
    "copy": copy,
    "associative recall": associative_recall,
    "adding": adding,
    "needle": needle,
}
"""Name of a probe -> what draws a batch of it."""


def _generator(num_rows: int, distance: int, seed: int | tuple[int, ...], *, least: int) -> np.random.Generator:
    if num_rows < 1:
        raise ArgumentError(f"A probe needs at least one row, got num_rows={num_rows}.")
    if distance < least:
        raise ArgumentError(f"The distance of this probe must be at least {least}, got {distance}.")
    return np.random.default_rng(seed)


def _different(generator: np.random.Generator, num_rows: int, number: int, among: int) -> _Ids:
    """Return ``number`` different whole numbers below ``among`` for each row."""
    return generator.permuted(np.tile(np.arange(among), (num_rows, 1)), axis=1)[:, :number]
