"""What is being checked: a private copy that rules may call, and what is known of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from regard.conformance.stream import Stream
from regard.conformance.traits import Traits

__all__ = ["Subject"]


class Subject(ABC):
    """A function, an attention module or a whole model.

    Attributes:
        kind: ``"function"``, ``"module"`` or ``"model"``.
        name: what the report calls it.
        traits: what it is.
        streams: its inputs that are sequences.
        copy: the private copy in float64 and in evaluation mode, or None for a function.
        original: what was given; it is never called nor changed.
        dtype: type of the original's parameters.
        exact: type that the copy computes in, float64 wherever it runs in that.
        notes: what was done to be able to check it, one sentence each.
        origin: Python that gives the original, an expression on its last line; None where that is not known.
    """

    kind: ClassVar[str]
    name: str
    traits: Traits
    streams: Sequence[Stream]
    copy: nn.Module | None = None
    original: Any = None
    dtype: torch.dtype = torch.float32
    exact: torch.dtype = torch.float64
    notes: Sequence[str] = ()
    origin: str | None = None

    @property
    def sequences(self) -> list[Stream]:
        """Streams whose second axis is a sequence of any length."""
        return [stream for stream in self.streams if stream.sequential]

    @abstractmethod
    @contextmanager
    def precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in ``dtype`` meanwhile; parameters come back bit for bit."""
        ...

    @abstractmethod
    def setup(self) -> str:
        """Return the lines of Python that a reproduction begins with."""
        ...

    def made(self, variable: str, ending: str = "") -> str:
        """Return the lines of Python that assign the original to ``variable``, else a comment that names it."""
        if self.origin is None:
            return f"# {variable}: the {self.kind} that was checked"
        *before, expression = self.origin.splitlines()
        same = expression + ending == variable
        return "\n".join([*before, *([] if same else [f"{variable} = {expression}{ending}"])])

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` in the precision that the subject computes in now; whole numbers stay."""
        return tokens
