"""Continuing sequences token by token: the likeliest token, or one that is drawn."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from regard.models.generation.sampling import Sampling, draw
from regard.models.generation.session import Session, check_logits, check_request

__all__ = ["Generated", "generate"]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What was generated, without the prompts.

    Attributes:
        tokens: the new tokens, with a stop token where one ended the sequence; ``pad_id`` behind it.
        lengths: how many of them are real, the stop token included.
        stopped: whether a stop token ended the sequence, and not ``max_new_tokens``.
    """

    tokens: Int[Tensor, "batch new"]
    lengths: Int[Tensor, " batch"]
    stopped: Bool[Tensor, " batch"]

    def rows(self) -> list[list[int]]:
        """Return the new tokens of each sequence, without padding."""
        return [row[:length] for row, length in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)]


@torch.inference_mode()
def generate(
    session: Session,
    input_ids: Int[Tensor, "batch len"],
    *,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    pad_id: int = 0,
) -> Generated:
    """Continue each sequence until it stops or is long enough.

    Args:
        session: a fresh one, such as ``Decoder.session()``.
        input_ids: prompts, or the start token of an encoder–decoder.
        max_new_tokens: most tokens to generate a sequence.
        attention_mask: 1 = real token; padding stands on the left.
        sampling: how tokens are drawn; None for the likeliest at each step (the first of equal ones).
        stop: ids that end a sequence. The others of the batch go on until all have stopped.
        pad_id: what fills a sequence after its end.

    Raises:
        ArgumentError: more tokens than the context has room for, or a prompt that does not fit.
        NumericError: logits without a finite largest one; it names row and step.

    Example:
        >>> from regard.models import Decoder, DecoderConfig
        >>> config = DecoderConfig(vocab_size=99, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64)
        >>> model = Decoder(config).eval()
        >>> generate(model.session(), torch.tensor([[5, 17, 3]]), max_new_tokens=4).tokens.shape
        torch.Size([1, 4])
    """
    check_request(session, input_ids, attention_mask, max_new_tokens, stop)
    generator = torch.Generator(input_ids.device).manual_seed(0 if sampling is None else sampling.seed)
    stops = torch.tensor(sorted(stop), device=input_ids.device, dtype=torch.int64)
    running = torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
    lengths = torch.zeros(len(input_ids), dtype=torch.int64, device=input_ids.device)
    found: list[Tensor] = []
    fed, mask = input_ids, attention_mask
    for step in range(max_new_tokens):
        logits = session.feed(fed, mask)
        best, token = logits.max(-1)
        check_logits(best, step)
        if sampling is not None:
            token = draw(logits, sampling, generator)
        if len(stops):
            token = token.masked_fill(~running, pad_id)
        found.append(token)
        lengths += running
        if len(stops):
            running &= ~torch.isin(token, stops)
            if not bool(running.any()):
                break
        fed, mask = token[:, None], None
    return Generated(tokens=torch.stack(found, 1), lengths=lengths, stopped=~running)
