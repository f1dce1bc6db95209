"""Draw query rows of a call: the same number from the whole batch, each real row equally likely."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RowSample", "draw"]


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """Some query rows of each sequence.

    Attributes:
        rows: int64 (batch, most rows of a sequence), ascending; the places left over repeat row 0.
        valid: bool (batch, 1, most rows of a sequence), False where a place is left over.
    """

    rows: Tensor
    valid: Tensor

    def pick(self, tensor: Tensor) -> Tensor:
        """Return the drawn rows of a tensor (batch, heads, q_len, …)."""
        index = self.rows.to(tensor.device)[:, None, :]
        index = index[(...,) + (None,) * (tensor.ndim - 3)]
        return tensor.gather(2, index.expand(-1, tensor.shape[1], -1, *tensor.shape[3:]))


def draw(real: Tensor, number: int, seed: int) -> RowSample | None:
    """Draw ``number`` of the real rows of a batch without replacement, or return None where there are no more.

    A simple random sample over all sequences: its mean is unbiased for the mean over all real rows.

    Args:
        real: bool (batch, q_len), True = the row counts.
        number: rows to draw.
        seed: of the draw; PyTorch's own random state is left alone.
    """
    batch, q_len = real.shape
    places = real.flatten().nonzero()[:, 0].cpu()
    if len(places) <= number:
        return None
    generator = torch.Generator().manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
    chosen = places[torch.randperm(len(places), generator=generator)[:number]].sort().values
    sequence, row = chosen // q_len, chosen % q_len
    counts = torch.bincount(sequence, minlength=batch)
    first = counts.cumsum(0) - counts
    place = torch.arange(number) - first[sequence]
    most = int(counts.max())
    rows = torch.zeros(batch, most, dtype=torch.int64)
    rows[sequence, place] = row
    return RowSample(rows=rows, valid=(torch.arange(most) < counts[:, None])[:, None, :])
