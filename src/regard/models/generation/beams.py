"""Beam search: the likeliest whole sequences, as far as a few beginnings at a time can find them."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.models.generation.session import Session, check_logits, check_request

__all__ = ["Beams", "beam_search", "length_penalty"]


@dataclass(frozen=True, kw_only=True)
class Beams:
    """What beam search found for each prompt, the best first.

    Attributes:
        tokens: the new tokens, with the stop token where there is one; ``pad_id`` behind it.
        lengths: how many of them are real, the stop token included; 0 where fewer were found than asked for.
        scores: log-probability / length penalty, -inf where fewer were found.
        stopped: whether a stop token ended the sequence.
    """

    tokens: Int[Tensor, "batch num_beams new"]
    lengths: Int[Tensor, "batch num_beams"]
    scores: Float[Tensor, "batch num_beams"]
    stopped: Bool[Tensor, "batch num_beams"]

    def rows(self) -> list[list[int]]:
        """Return the best sequence of each prompt, without padding."""
        best = zip(self.tokens[:, 0].tolist(), self.lengths[:, 0].tolist(), strict=True)
        return [row[:length] for row, length in best]


def length_penalty(length: int, alpha: float) -> float:
    """Return what a log-probability is divided by: ((5 + length) / 6) ** alpha, ``length`` counting the stop token.

    At alpha 0 nothing is; towards 1 longer sequences are preferred.

    References:
        Wu et al., Google's neural machine translation system, arXiv:1609.08144, equation 14, without its coverage
        penalty.
    """
    return float(((5.0 + length) / 6.0) ** alpha)


@torch.inference_mode()
def beam_search(
    session: Session,
    input_ids: Int[Tensor, "batch len"],
    *,
    num_beams: int,
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    alpha: float = 0.6,
    stop: Collection[int] = (),
    pad_id: int = 0,
) -> Beams:
    """Search for the sequences with the best score, log-probability / ``length_penalty``.

    At each step the best continuations of all beams are looked at together. Those among the best ``num_beams`` that
    end with a stop token are finished and compete by their scores; the best others go on. A prompt is done when no
    running beam can reach the worst of its ``num_beams`` finished ones any more, even if its remaining tokens were
    certain, and takes no more part; at ``max_new_tokens`` the running ones count as finished. One beam takes the
    likeliest token each time and ends with the first stop token.

    Args:
        session: a fresh one, such as ``Decoder.session()``.
        input_ids: prompts, or the start token of an encoder–decoder.
        num_beams: sequences that are followed, and returned, for each prompt.
        max_new_tokens: most tokens to generate a sequence.
        attention_mask: 1 = real token; padding stands on the left.
        alpha: of the length penalty; 0 for none. 0.6 is the Transformer's.
        stop: ids that end a sequence.
        pad_id: what fills a sequence after its end.

    Raises:
        ArgumentError: no beam, a negative ``alpha``, more tokens than the context has room for, or a prompt that does
            not fit.
        NumericError: logits without a finite largest one.

    References:
        Wu et al., Google's neural machine translation system, arXiv:1609.08144, section 7.

    Example:
        >>> from regard.models import Decoder, DecoderConfig
        >>> config = DecoderConfig(vocab_size=99, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64)
        >>> model = Decoder(config).eval()
        >>> beam_search(model.session(), torch.tensor([[5, 17]]), num_beams=3, max_new_tokens=4).scores.shape
        torch.Size([1, 3])
    """
    if num_beams < 1 or not alpha >= 0:
        raise ArgumentError(f"num_beams must be at least 1 and alpha at least 0, got {num_beams} and {alpha}.")
    check_request(session, input_ids, attention_mask, max_new_tokens, stop)
    search = _Search(input_ids, num_beams, max_new_tokens, alpha, sorted(set(stop)), pad_id)
    logits = session.feed(input_ids, attention_mask)
    for step in range(max_new_tokens):
        check_logits(logits.amax(-1), step)
        rows = search.step(torch.log_softmax(logits.float(), -1), step)
        running = ~search.done()
        if not running.any():
            break
        session.select(search.keep(running, rows))
        logits = session.feed(search.last(step))
    return search.result()


class _Search:
    """The running beams of the prompts that are not done, and the finished ones of all."""

    def __init__(
        self, prompts: Tensor, num_beams: int, max_new_tokens: int, alpha: float, stop: list[int], pad_id: int
    ) -> None:
        batch, device = len(prompts), prompts.device
        self.num_beams, self.max_new_tokens, self.alpha = num_beams, max_new_tokens, alpha
        self.stop = torch.tensor(stop, device=device, dtype=torch.int64)
        shape = (batch, num_beams)
        self.places = torch.arange(batch, device=device)  # of the prompts that are not done
        self.sums = torch.zeros(batch, 1, device=device)  # log-probability of each of their running beams
        self.tokens = torch.full((batch, 1, max_new_tokens), pad_id, device=device)
        self.finished = Beams(  # of those that are not done, the best first
            scores=torch.full(shape, -torch.inf, device=device),
            tokens=torch.full((*shape, max_new_tokens), pad_id, device=device),
            lengths=torch.zeros(shape, dtype=torch.int64, device=device),
            stopped=torch.zeros(shape, dtype=torch.bool, device=device),
        )
        self._left: list[tuple[Tensor, Beams]] = []  # the prompts that are done: their places and what was found

    def step(self, log_probs: Tensor, step: int) -> Tensor:
        """Continue every beam by a token; return which rows of the session the new beams continue, (prompts, beams)."""
        prompts, beams = self.sums.shape
        vocab_size = log_probs.shape[1]
        totals = (self.sums[:, :, None] + log_probs.view(prompts, beams, vocab_size)).flatten(1)
        # Enough that num_beams of them go on even if all stop tokens of all beams are among the best.
        wanted = min(self.num_beams * (1 + len(self.stop)), totals.shape[1])
        sums, places = totals.topk(wanted)
        parents, tokens = places // vocab_size, places % vocab_size
        ends = torch.isin(tokens, self.stop)
        grown = self.tokens.gather(1, parents[:, :, None].expand(-1, -1, self.max_new_tokens)).clone()
        grown[:, :, step] = tokens
        is_last = step + 1 == self.max_new_tokens
        leading = torch.arange(wanted, device=sums.device) < self.num_beams
        self._finish(sums.masked_fill(~(leading & (ends | is_last)), -torch.inf), grown, ends, step + 1)
        sums = sums.masked_fill(ends, -torch.inf)
        self.sums, order = sums.topk(min(self.num_beams, wanted))
        self.tokens = grown.gather(1, order[:, :, None].expand(-1, -1, self.max_new_tokens))
        first = torch.arange(prompts, device=sums.device)[:, None] * beams
        return first + parents.gather(1, order)

    def last(self, step: int) -> Tensor:
        """Return the last token of each running beam, (prompts · beams, 1)."""
        return self.tokens[:, :, step].reshape(-1, 1)

    def done(self) -> Bool[Tensor, " prompts"]:
        """Return for which prompts no running beam can still come among the finished ones."""
        if self.num_beams == 1:
            return self.finished.lengths[:, 0] > 0
        best = self.sums[:, 0] / length_penalty(self.max_new_tokens, self.alpha)
        return (best <= self.finished.scores[:, -1]) | (self.sums[:, 0] == -torch.inf)

    def keep(self, running: Bool[Tensor, " prompts"], rows: Int[Tensor, "prompts beams"]) -> Int[Tensor, " rows"]:
        """Go on with the prompts that are ``running`` only; return their part of ``rows``."""
        if running.all():
            return rows.flatten()
        self._leave(~running)
        self.places, self.sums, self.tokens = self.places[running], self.sums[running], self.tokens[running]
        self.finished = _chosen(self.finished, running)
        return rows[running].flatten()

    def result(self) -> Beams:
        """Return the finished beams of all prompts, in their order."""
        self._leave(torch.ones_like(self.places, dtype=torch.bool))
        order = torch.cat([places for places, _ in self._left]).argsort()
        parts = [found for _, found in self._left]
        lengths = torch.cat([part.lengths for part in parts])[order]
        return Beams(
            tokens=torch.cat([part.tokens for part in parts])[order][:, :, : max(1, int(lengths.max()))],
            lengths=lengths,
            scores=torch.cat([part.scores for part in parts])[order],
            stopped=torch.cat([part.stopped for part in parts])[order],
        )

    def _leave(self, done: Tensor) -> None:
        """Put aside what was found for some prompts."""
        self._left.append((self.places[done], _chosen(self.finished, done)))

    def _finish(self, sums: Tensor, tokens: Tensor, ends: Tensor, length: int) -> None:
        """Let candidates, -inf where they are none, compete with the finished ones."""
        before = self.finished
        scores = torch.cat((before.scores, sums / length_penalty(length, self.alpha)), 1)
        scores, order = scores.topk(self.num_beams)
        found = torch.cat((before.tokens, tokens), 1).gather(1, order[:, :, None].expand(-1, -1, self.max_new_tokens))
        lengths = torch.cat((before.lengths, torch.full_like(tokens[:, :, 0], length)), 1).gather(1, order)
        stopped = torch.cat((before.stopped, ends), 1).gather(1, order)
        real = scores > -torch.inf
        self.finished = Beams(tokens=found, lengths=lengths * real, scores=scores, stopped=stopped & real)


def _chosen(beams: Beams, prompts: Tensor) -> Beams:
    return Beams(
        tokens=beams.tokens[prompts],
        lengths=beams.lengths[prompts],
        scores=beams.scores[prompts],
        stopped=beams.stopped[prompts],
    )
