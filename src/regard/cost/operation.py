"""One piece of work that a model did, as it is written down."""

from dataclasses import dataclass

from regard.cost.parts import Part, Phase

__all__ = ["Operation"]


@dataclass(slots=True, kw_only=True)
class Operation:
    """An operator that ran, or a call of attention that is many of them.

    Attributes:
        operator: its name, such as ``aten.addmm``.
        phase: when it ran.
        module: dotted name of the innermost module that was running; of the forward's, in the backward pass.
        part: what it was for; settled at the end, when it is known what became of its result.
        flops: operations in matrix products, two for each multiplication that is added.
        needed: those that the mathematics needs: less than ``flops`` where a mask hides pairs that a kernel computes.
        numbers: numbers that were read or written, the larger of both.
        moved_bytes: bytes that were read and written.
        seconds: how long it took; 0 where nothing was timed.
        parameter: name of the weight that it multiplied with.
        sources: numbers of the operations that made what it read.
        twin: number of the forward operation whose gradient it computed.
    """

    operator: str
    phase: Phase
    module: str
    part: Part | None = None
    flops: int = 0
    needed: int = 0
    numbers: int = 0
    moved_bytes: int = 0
    seconds: float = 0.0
    parameter: str | None = None
    sources: frozenset[int] = frozenset()
    twin: int | None = None
