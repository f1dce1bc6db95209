"""Rows that hold several sequences, one after the other: who may see whom, and where each token stands."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.functional import causal_mask, document_mask

__all__ = ["numbered", "offsets_of", "places_of", "visible"]


def numbered(*rows: Sequence[int]) -> Tensor:
    """Return the number of the sequence that each token belongs to, (rows, len), from the lengths of the sequences."""
    return torch.stack([torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)) for sizes in rows])


def visible(documents: Tensor, *, causal: bool) -> Tensor:
    """Return the mask that keeps sequences apart, (batch, 1, len, len), True = may attend."""
    blocks: Tensor = document_mask(documents)
    length = documents.shape[1]
    return blocks & causal_mask(length, length) if causal else blocks


def places_of(documents: Tensor) -> Tensor:
    """Return positions that begin anew with each sequence, (batch, len), from 0."""
    places = torch.arange(documents.shape[1]).expand_as(documents)
    begins = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
    return places - torch.where(begins, places, 0).cummax(1).values


def offsets_of(documents: Tensor) -> Tensor:
    """Return where each sequence begins, and the end, in the rows one after the other: int32 (sequences + 1,)."""
    row = torch.arange(len(documents))[:, None] * (int(documents.max()) + 1)
    _, lengths = torch.unique_consecutive((documents + row).flatten(), return_counts=True)
    return torch.cat((lengths.new_zeros(1), lengths.cumsum(0))).to(torch.int32)
