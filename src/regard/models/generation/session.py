"""What generation asks of a model: the small protocol that a decoder and an encoder–decoder both meet."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError, NumericError
from regard.models.inputs import check_shape, keep_mask

__all__ = ["Session", "check_logits", "check_request"]


@runtime_checkable
class Session(Protocol):
    """One batch of sequences that is being continued: a model and what it remembers of them.

    A decoder begins with a prompt; an encoder–decoder makes its session of the source and begins with its start token.
    A session is used once.
    """

    @property
    def length(self) -> int:
        """Return how many tokens were fed, padding included."""

    @property
    def max_len(self) -> int:
        """Return how many tokens can be fed in all."""

    def feed(
        self, input_ids: Int[Tensor, "batch len"], attention_mask: Tensor | None = None
    ) -> Float[Tensor, "batch vocab_size"]:
        """Take the next tokens of each sequence and return the logits of the one after them.

        ``attention_mask`` lies over these tokens alone, 1 = real token; the last one must be real.
        """

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with the sequences ``rows``, in that order; one may be left out, or taken several times."""


def check_request(
    session: Session, input_ids: Tensor, attention_mask: Tensor | None, max_new_tokens: int, stop: Collection[int]
) -> None:
    """Look at what is asked before anything is computed.

    Raises:
        ArgumentError: no token asked for, more than the context has room for, a padding on the right, a negative stop
            token.
    """
    if max_new_tokens < 1:
        raise ArgumentError(f"max_new_tokens must be at least 1, got {max_new_tokens}.")
    if any(token < 0 for token in stop):
        raise ArgumentError(f"stop must hold token ids from 0 on, got {sorted(stop)}.")
    # The last new token is not fed any more.
    needed = session.length + input_ids.shape[1] + max_new_tokens - 1
    if needed > session.max_len:
        raise ArgumentError(
            f"The context has room for {session.max_len} tokens, got {session.length + input_ids.shape[1]} and "
            f"{max_new_tokens} to come; shorten the prompt or ask for at most "
            f"{max(0, max_new_tokens + session.max_len - needed)} new tokens."
        )
    if attention_mask is not None:
        check_shape(attention_mask, input_ids.shape, name="attention_mask")
        keep_mask(attention_mask, input_ids.shape)
        if not bool((attention_mask[:, -1] != 0).all()):
            row = int((attention_mask[:, -1] == 0).nonzero()[0])
            raise ArgumentError(
                f"Prompts must be padded on the left, got padding at the end of row {row}; "
                "the new tokens continue from the last column."
            )


def check_logits(best: Tensor, step: int) -> None:
    """Refuse logits whose largest one, ``best`` (batch,), is no finite number.

    -inf forbids a token and is allowed, as long as one token is left.

    Raises:
        NumericError: NaN, +inf, or every token forbidden; it names row and step.
    """
    if not bool(torch.isfinite(best).all()):
        row = int((~torch.isfinite(best)).nonzero()[0])
        raise NumericError(
            f"The logits must be numbers with a finite largest one, got {float(best[row])} in row {row} at new token "
            f"{step}; look for the cause with `regard.guard`."
        )
