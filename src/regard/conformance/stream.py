"""One input of a subject that is a sequence of tokens, and what it gives for each token: what most rules work on."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.conformance.outcome import NotTestedError

__all__ = ["Output", "Packing", "Stream", "calling"]

_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Output:
    """What a subject gave.

    Attributes:
        tokens: (batch, len, width), one vector per token of the stream; of an image or a spectrum the places inside.
        other: outputs that depend on the whole sequence, such as the decoder's when the stream is the encoder's, or
            None.
    """

    tokens: Tensor
    other: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Packing:
    """One way in which a subject takes several sequences in one row, one after the other.

    Attributes:
        name: what keeps them apart, in words.
        call: (tokens, documents) -> ``Output``; ``documents`` is whole numbers (batch, len), the number of the sequence
            that each token belongs to, rising from 0 in each row.
        longest: the longest sequence that this way is good for, or None for any.
        lines: Python that makes what ``text`` needs out of ``sizes`` and ``documents``, for a reproduction.
        text: how the call is written, with ``{tokens}``.
    """

    name: str
    call: Callable[[Tensor, Tensor], Output]
    longest: int | None = None
    lines: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One input of a subject.

    Attributes:
        name: ``"tokens"``, ``"encoder"``, ``"decoder"``, ``"image"`` …
        draw: (batch, len, generator) -> tokens: whole numbers (batch, len), or vectors (batch, len, width).
        call: (tokens, keep, positions) -> ``Output``; ``keep`` is bool (batch, len), True = real token, or None;
            ``positions`` is whole numbers (batch, len) or None.
        sequential: its second axis is a sequence that may have any length.
        causal: a token may not depend on later ones.
        padding: ``keep`` is taken.
        positions: offset that explicit positions count from, or None where they are not taken.
        left_padding: padding may stand on the left, with corrected positions where ``positions`` are taken.
        padding_token: whole number to pad with.
        step: (chunk, cache, keep so far, positions of the chunk) -> (outputs (batch, chunk, width), cache), or None
            where there is no cache.
        cache_name: name of the argument and of the output that hold the cache, for a reproduction.
        has_positions: it knows the order of tokens; None where that is not known.
        text: how its call is written in a reproduction, with ``{tokens}``, ``{keep}`` in their places.
        mask_text: what stands for ``{keep}`` where there is a ``{mask}`` of real tokens.
        no_mask_text: what stands for it where there is none.
        packings: the ways in which it takes several sequences in one row.
        no_packing: why there is none.
    """

    name: str
    draw: Callable[[int, int, torch.Generator], Tensor]
    call: Callable[[Tensor, Tensor | None, Tensor | None], Output]
    sequential: bool = True
    causal: bool = False
    padding: bool = False
    positions: int | None = None
    left_padding: bool = False
    padding_token: int = 0
    step: Callable[[Tensor, Any, Tensor | None, Tensor | None], tuple[Tensor, Any]] | None = None
    cache_name: str = ""
    has_positions: bool | None = None
    text: str = "model({tokens})"
    mask_text: str = ""
    no_mask_text: str = ""
    packings: Sequence[Packing] = ()
    no_packing: str = ""

    def run(self, tokens: Tensor, keep: Tensor | None = None, positions: Tensor | None = None) -> Output:
        """Return what the subject gives, without gradients.

        Raises:
            NotTestedError: it raised an error.
        """
        with torch.no_grad(), calling(f"with {tuple(tokens.shape)} tokens"):
            # A copy, so that a subject that changes its input in place breaks the rule on that and no other.
            return self.call(tokens.clone(), keep, positions)

    def pack(self, packing: Packing, tokens: Tensor, documents: Tensor) -> Output:
        """Return what the subject gives for rows of several sequences, without gradients.

        Raises:
            NotTestedError: it raised an error, or did not give one vector per token.
        """
        with torch.no_grad(), calling(f"with {tuple(tokens.shape)} packed tokens"):
            output = packing.call(tokens.clone(), documents)
        found: object = output.tokens
        if not isinstance(found, Tensor) or found.shape[:2] != tokens.shape[:2]:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise NotTestedError(f"rows of {tuple(tokens.shape[:2])} packed tokens must give a vector each, got {got}")
        return output

    def explicit(self, keep: Tensor) -> Tensor | None:
        """Return the positions that real tokens have alone, as models count them, or None where none are taken."""
        if self.positions is None:
            return None
        return (keep.long().cumsum(1) - 1).clamp_min(0) + self.positions


@contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn an error of the subject into the reason why something could not be tested."""
    try:
        yield
    except _ERRORS as error:
        message = str(error).strip().splitlines() or [""]
        raise NotTestedError(f"called {what} it raised {type(error).__name__}: {message[0][:200]}") from error
