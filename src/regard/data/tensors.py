"""A batch of token numbers as tensors; the only file of this room that needs torch."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

__all__ = ["collate"]


def collate(
    ids: Sequence[Sequence[int]], indices: Sequence[int], pad_id: int
) -> tuple[Int64[Tensor, "batch q_len"], Bool[Tensor, "batch q_len"]]:
    """Pad the documents of one batch on the right to the longest of them.

    Args:
        ids: token numbers of all documents.
        indices: which documents make the batch.
        pad_id: number of the padding token.

    Returns:
        ``input_ids`` and ``attention_mask`` (True = real token), as a model's ``forward`` takes them.

    Example:
        >>> collate([[5, 6, 7], [8]], [0, 1], pad_id=0)[0].tolist()
        [[5, 6, 7], [8, 0, 0]]
    """
    rows = [ids[index] for index in indices]
    longest = max(len(row) for row in rows)
    input_ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows], dtype=torch.int64)
    lengths = torch.tensor([len(row) for row in rows])
    return input_ids, torch.arange(longest) < lengths[:, None]
