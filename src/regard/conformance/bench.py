"""The work bench of a check: seeds, lengths, and how far from equal rounding alone takes a subject."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Trace, traced

__all__ = ["Bench", "distance"]

_LENGTH, _FAST_LENGTH = 10, 6  # tokens; neither is the length that the other side of an encoder–decoder has
_BATCH, _FAST_BATCH = 3, 2


class Bench:
    """What rules share while one subject is checked.

    Args:
        subject: what is checked.
        seed: of every draw.
        fast: fewer and shorter cases.
    """

    def __init__(self, subject: Subject, *, seed: int = 0, fast: bool = False) -> None:
        self.seed = seed
        self.fast = fast
        self.length = _FAST_LENGTH if fast else _LENGTH
        self.batch = _FAST_BATCH if fast else _BATCH
        self.random = False  # set by the determinism rule: nothing else can be measured then
        self._subject = subject
        self._floors: dict[str, float] = {}
        self._plain: dict[str, tuple[Tensor, Output]] = {}
        self._rough: dict[str, Output] = {}
        self._traces: dict[tuple[str, int], Trace] = {}

    def generator(self, offset: int = 0) -> torch.Generator:
        """Return a generator that gives the same numbers in every check with this seed."""
        return torch.Generator().manual_seed(1_000_003 * self.seed + offset)

    def tokens(self, stream: Stream, batch: int | None = None, length: int | None = None, *, offset: int = 0) -> Tensor:
        """Return tokens of ``stream``, the same for the same arguments."""
        return stream.draw(batch or self.batch, length or self.length, self.generator(offset))

    def plain(self, stream: Stream) -> tuple[Tensor, Output]:
        """Return tokens of the usual size and what the subject gives for them."""
        if stream.name not in self._plain:
            tokens = self.tokens(stream)
            self._plain[stream.name] = tokens, stream.run(tokens)
        return self._plain[stream.name]

    def trace(self, stream: Stream, offset: int = 0) -> Trace:
        """Return what happens inside of the subject for its usual tokens; rules that look at it share one run.

        Args:
            stream: which input.
            offset: another number for other tokens.

        Raises:
            NotTestedError: there is no inside, or the subject raised an error.
        """
        if self._subject.copy is None:
            raise NotTestedError("a function has no inside that could be heard")
        if (stream.name, offset) not in self._traces:
            with traced(self._subject.copy) as trace:
                stream.run(self.tokens(stream, offset=offset))
            self._traces[stream.name, offset] = trace
        return self._traces[stream.name, offset]

    def rough(self, stream: Stream) -> Output:
        """Return what the subject gives for its usual tokens in float32."""
        if stream.name not in self._rough:
            with self._subject.precision(torch.float32):
                self._rough[stream.name] = stream.run(self.tokens(stream))
        return self._rough[stream.name]

    def floor(self, stream: Stream) -> float:
        """Return what still counts as equal: twice the error of a float32 run against the float64 one.

        A model may take single steps in float32 whatever its parameters are, such as norms and rotary tables, and a
        batch of another shape sums in another order; neither is further from the truth than a run in float32.

        Raises:
            NotTestedError: the subject gives numbers that are not finite.
        """
        if stream.name not in self._floors:
            exact = self.plain(stream)[1]
            if not bool(exact.tokens.isfinite().all()):
                raise NotTestedError("its outputs are not finite without any padding, so nothing can be compared")
            largest = max(float(exact.tokens.abs().max()), 1.0)
            least = 1e3 * torch.finfo(self._subject.exact).eps * largest
            self._floors[stream.name] = max(2 * self._rounding(stream, exact), least)
        return self._floors[stream.name]

    def _rounding(self, stream: Stream, exact: Output) -> float:
        """Return the error of a run in float32; 0 where there is no better one to hold it against."""
        if self._subject.exact != torch.float64:
            return 0.0
        return distance(self.rough(stream).tokens.double(), exact.tokens.double())

    def settled(self, stream: Stream, measure: Callable[[], float]) -> tuple[float, float]:
        """Return what ``measure`` gives and the tolerance for it, in float32 where only float64 is not finite.

        Some models forbid keys with the lowest number of their type. In float64 a row that may see nothing then
        overflows to NaN, which says nothing of the type that they are used in.
        """
        measured = measure()
        if math.isfinite(measured):
            return measured, self.floor(stream)
        with self._subject.precision(torch.float32):
            return measure(), 2 * self.floor(stream)

    def lengths(self) -> Sequence[int]:
        """Return the lengths at which a failing case is looked for, the shortest first."""
        return range(2, self.length + 1)


def distance(one: Tensor, other: Tensor) -> float:
    """Return the largest absolute difference; infinite where one is not finite and the other is."""
    if one.numel() == 0:
        return 0.0
    difference = (one - other).abs()
    return float(difference.nan_to_num(nan=torch.inf).max())
