"""Writing with a trained model: texts in, texts out, the likeliest that beam search finds."""

from collections.abc import Callable, Sequence

import torch

from regard.data import Tokenizer, collate, sorted_batches
from regard.models import Transformer
from regard.models.generation import beam_search
from regard.train.translation.config import WritingConfig

__all__ = ["write_texts"]

_TOKENS_PER_BATCH = 4096
_ROOM = 50  # tokens that an output may have beyond its share of the source
_FACTOR = 2.0


def write_texts(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    writing: WritingConfig,
    max_len: int,
    factor: float = _FACTOR,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return what the model writes for each text.

    Args:
        model: in evaluation mode.
        tokenizer: the one that it was trained with.
        texts: sources; longer ones than ``max_len`` tokens are cut.
        writing: beams and length penalty.
        max_len: most tokens of a source.
        factor: an output has at most this many times as many tokens as its source, and 50 more.
        progress: called now and then with the number of texts done and of all.
    """
    ids = tokenizer.encode(texts, max_len).ids
    lengths = [len(one) for one in ids]
    batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_TOKENS_PER_BATCH // writing.beams, max(lengths)))
    device = next(model.parameters()).device
    found: list[str] = []
    for batch in batches:
        source, mask = collate(ids, batch, tokenizer.pad_id)
        session = model.session(source.to(device), mask.to(device))
        room = min(int(source.shape[1] * factor) + _ROOM, session.max_len)
        beams = beam_search(
            session,
            torch.full((len(batch), 1), tokenizer.bos_id, device=device),
            num_beams=writing.beams,
            max_new_tokens=room,
            alpha=writing.length_penalty,
            stop=[tokenizer.eos_id],
            pad_id=tokenizer.pad_id,
        )
        found += [tokenizer.decode(row) for row in beams.rows()]
        if progress is not None:
            progress(len(found), len(texts))
    return [found[place] for place in inverse]
