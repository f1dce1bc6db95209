"""Drawing a token: temperature, the k likeliest, and the nucleus."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError

__all__ = ["Sampling", "draw", "sampling_weights"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; by default from the model's own distribution.

    Attributes:
        temperature: the logits are divided by it; below 1 the likely tokens become likelier.
        top_k: only the k likeliest tokens remain; None for all.
        top_p: of these, only the likeliest that together reach this probability remain, at least one; None for all.
        seed: of the random numbers; the same seed and batch give the same tokens.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Fan et al., Hierarchical neural story generation (top-k), arXiv:1805.04833; Holtzman et al., The curious case of
        neural text degeneration (top-p), arXiv:1904.09751.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ArgumentError(
                f"temperature must be above 0 and finite, got {self.temperature}; leave sampling out for the likeliest."
            )
        if self.top_k is not None and self.top_k < 1:
            raise ArgumentError(f"top_k must be at least 1 token, got {self.top_k}.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ArgumentError(f"top_p must lie in (0, 1], got {self.top_p}.")


def sampling_weights(
    logits: Float[Tensor, "batch vocab_size"], sampling: Sampling
) -> Float[Tensor, "batch vocab_size"]:
    """Return the probability of each token, in float32; each row sums to 1."""
    scores = logits.float() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[1]:
        least = scores.topk(sampling.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    weights = torch.softmax(scores, -1)
    if sampling.top_p is None or sampling.top_p == 1:
        return weights
    ordered, tokens = weights.sort(-1, descending=True)
    # A token remains where those before it do not reach top_p yet.
    before = ordered.cumsum(-1) - ordered
    nucleus = ordered.masked_fill(before >= sampling.top_p, 0.0)
    kept = torch.zeros_like(weights).scatter_(1, tokens, nucleus)
    return kept / kept.sum(-1, keepdim=True)


def draw(
    logits: Float[Tensor, "batch vocab_size"], sampling: Sampling, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Return one token a row, drawn by ``sampling_weights``."""
    return torch.multinomial(sampling_weights(logits, sampling), 1, generator=generator)[:, 0]
