"""How outputs depend on tokens: by changing one at a time, and by gradients, which see what a change may miss."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.bench import Bench
from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Stream, calling
from regard.conformance.subjects.subject import Subject

__all__ = ["dependence", "different", "differentiable", "influence"]


@contextmanager
def differentiable(
    subject: Subject, tokens: Tensor, vectors: Tensor | None = None
) -> Iterator[tuple[Tensor, Callable[[], Tensor]]]:
    """Yield tokens to call with, and a function that returns the vectors that gradients are taken of.

    Vectors are taken themselves; ids by what the first embedding makes of them, or by ``vectors`` in its place.
    """
    if tokens.dtype.is_floating_point:
        leaf = subject.vectors(tokens if vectors is None else vectors).detach().clone().requires_grad_()
        yield leaf, lambda: leaf
        return
    found: list[Tensor] = []

    def take(_: nn.Module, given: tuple[Any, ...], made: Tensor) -> Tensor | None:
        if found or not given or not _same(given[0], tokens):
            return None
        found.append((made if vectors is None else vectors).detach().clone().requires_grad_())
        return found[0]

    def taken() -> Tensor:
        if not found:
            raise NotTestedError("no embedding of its ids was found to take gradients of")
        return found[0]

    assert subject.copy is not None, "only modules take ids"
    handles = [one.register_forward_hook(take) for one in subject.copy.modules() if isinstance(one, nn.Embedding)]
    try:
        yield tokens, taken
    finally:
        for handle in handles:
            handle.remove()


def dependence(subject: Subject, stream: Stream, tokens: Tensor, rows: Sequence[int]) -> Tensor:
    """Return how strongly each row's output depends on each token, (rows, len): the norm of a gradient.

    Raises:
        NotTestedError: the subject cannot be differentiated.
    """
    generator = torch.Generator().manual_seed(0)
    with differentiable(subject, tokens) as (given, vectors), torch.enable_grad(), calling("with gradients"):
        output: Output = stream.call(given, None, None)
        weights = torch.randn(output.tokens.shape[-1], generator=generator).to(output.tokens.dtype)
        leaf = vectors()
        scores = (output.tokens * weights).sum(-1)[0]
        gradients = [torch.autograd.grad(scores[row], leaf, retain_graph=True, allow_unused=True)[0] for row in rows]
    length = tokens.shape[1]
    norms = [torch.zeros(length) if one is None else one[0].norm(dim=-1).detach() for one in gradients]
    return torch.stack([one.double() for one in norms])


def influence(stream: Stream, bench: Bench, length: int, *, size: float = 1.0) -> tuple[list[int], Tensor]:
    """Return which tokens were changed, and by how much each output changed with each of them, (changed, len).

    Args:
        stream: which input.
        bench: what draws tokens.
        length: how many tokens.
        size: factor of tokens that are vectors; a sharp softmax is less sharp on small ones.
    """
    tokens, others = (bench.tokens(stream, 1, length, offset=offset) for offset in (0, 1))
    if tokens.dtype.is_floating_point:
        tokens, others = tokens * size, others * size
    places = [1, length // 2, length - 1] if bench.fast and length > 3 else list(range(length))
    batch = tokens.repeat(len(places) + 1, *[1] * (tokens.ndim - 1))
    for row, changed in enumerate(places):
        batch[row, changed] = different(tokens[0, changed], others[0, changed])
    outputs = stream.run(batch).tokens
    return places, (outputs[:-1] - outputs[-1]).abs().amax(-1).nan_to_num(nan=torch.inf)


def different(token: Tensor, other: Tensor) -> Tensor:
    """Return ``other``, or the next one where it is the same."""
    return other if not torch.equal(token, other) else token + 1


def _same(given: Any, tokens: Tensor) -> bool:
    return isinstance(given, Tensor) and given.shape == tokens.shape and torch.equal(given, tokens)
