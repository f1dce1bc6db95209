"""Writing with a trained model: texts in, texts out, the likeliest that beam search finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from regard.data import Encoded, Tokenizer, collate, encode_with_contexts, sorted_batches
from regard.models.generation import beam_search
from regard.train.translation.config import WritingConfig
from regard.train.translation.model import TranslationNetwork

__all__ = ["WrittenTokens", "write_texts", "write_tokens"]

_TOKENS_PER_BATCH = 4096
_FACTOR = 2  # tokens that an output may have for each of its source, beside ``WritingConfig.room``


@dataclass(frozen=True, kw_only=True)
class WrittenTokens:
    """What was written for one source.

    Attributes:
        ids: the tokens, with the one that ends the text where it was written.
        ended: whether it was; without it the text ran to the most tokens that it may have.
    """

    ids: list[int]
    ended: bool


def write_texts(
    model: TranslationNetwork,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    contexts: Sequence[Sequence[str]] | None = None,
    writing: WritingConfig,
    max_len: int,
    context_len: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return what the model writes for each text.

    Args:
        model: in evaluation mode.
        tokenizer: the one that it was trained with.
        texts: sources; longer ones than ``max_len`` tokens are cut.
        contexts: per text those before it, the nearest first, for a model that was trained to read them.
        writing: beams and length penalty.
        max_len: most tokens of a source.
        context_len: most tokens of its context.
        progress: called now and then with the number of texts done and of all.
    """
    encoded = encode_with_contexts(tokenizer, texts, contexts, max_len=max_len, context_len=context_len)
    found = write_tokens(model, encoded, writing=writing, max_len=max_len, progress=progress)
    return [tokenizer.decode(one.ids) for one in found]


def write_tokens(
    model: TranslationNetwork,
    sources: Encoded,
    *,
    writing: WritingConfig,
    max_len: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[WrittenTokens]:
    """Return what the model writes for each sequence of tokens, in their order.

    A text has at most twice as many tokens as its source, and ``writing.room`` more.

    Args:
        model: in evaluation mode.
        sources: what it reads; ``lengths`` are those of the texts without their contexts.
        writing: beams and length penalty.
        max_len: most tokens of a text.
        progress: called now and then with the number of sequences done and of all.
    """
    ids, config = sources.ids, model.config
    lengths = [len(one) for one in ids]
    batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_TOKENS_PER_BATCH // writing.beams, max(lengths)))
    device = next(model.parameters()).device
    found: list[WrittenTokens] = []
    for batch in batches:
        source, mask = collate(ids, batch, config.pad_id)
        session = model.session(source.to(device), mask.to(device))
        limits = [
            min(_FACTOR * min(sources.lengths[index], max_len) + writing.room, session.max_len) for index in batch
        ]
        beams = beam_search(
            session,
            torch.full((len(batch), 1), config.bos_id, device=device),
            num_beams=writing.beams,
            max_new_tokens=max(limits),
            alpha=writing.length_penalty,
            stop=[config.eos_id],
            pad_id=config.pad_id,
        )
        # A longer neighbour in the batch is no reason to write on.
        found += [
            WrittenTokens(ids=row[:limit], ended=ended and len(row) <= limit)
            for row, limit, ended in zip(beams.rows(), limits, beams.stopped[:, 0].tolist(), strict=True)
        ]
        if progress is not None:
            progress(len(found), len(ids))
    return [found[place] for place in inverse]
