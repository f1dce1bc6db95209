"""A batch of sequences of frames as tensors."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

__all__ = ["collate_frames"]


def collate_frames(
    frames: Sequence[npt.NDArray[np.float32]], indices: Sequence[int]
) -> tuple[Float32[Tensor, "batch len channels"], Bool[Tensor, "batch len"]]:
    """Pad the sequences of one batch on the right to the longest of them.

    Args:
        frames: of all sequences, (frames, channels) each.
        indices: which sequences make the batch.

    Returns:
        ``frames`` and ``attention_mask`` (True = real frame), as a model's ``forward`` takes them.

    Example:
        >>> collate_frames([np.ones((2, 1), np.float32), np.ones((1, 1), np.float32)], [0, 1])[1].tolist()
        [[True, True], [True, False]]
    """
    lengths = torch.tensor([len(frames[index]) for index in indices])
    padded = torch.zeros(len(indices), int(lengths.max()), frames[indices[0]].shape[1])
    for row, index in enumerate(indices):
        padded[row, : len(frames[index])] = torch.from_numpy(frames[index])
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]
