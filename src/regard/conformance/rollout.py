"""Feeding a sequence to a stream in chunks, with its cache between them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Stream, calling

__all__ = ["rolled"]


def rolled(stream: Stream, tokens: Tensor, sizes: Sequence[int], keep: Tensor | None = None) -> Tensor:
    """Return the outputs of all chunks, (batch, len, width).

    Args:
        stream: an input with a cache.
        tokens: (batch, len).
        sizes: lengths of the chunks; their sum is len.
        keep: bool (batch, len), True = real token; positions are then counted over real tokens.

    Raises:
        NotTestedError: the subject raised an error.
    """
    assert stream.step is not None, "only streams with a cache are rolled"
    positions = None if keep is None else stream.explicit(keep)
    outputs, cache, start = [], None, 0
    for size in sizes:
        end = start + size
        mask = None if keep is None else keep[:, :end]
        places = None if positions is None else positions[:, start:end]
        with torch.no_grad(), calling(f"with a chunk of {size} after {start} cached tokens"):
            output, cache = stream.step(tokens[:, start:end], cache, mask, places)
        if output.shape[:2] != (len(tokens), size):
            raise NotTestedError(f"a chunk of {size} tokens gave {tuple(output.shape)}")
        outputs.append(output)
        start = end
    return torch.cat(outputs, 1)
