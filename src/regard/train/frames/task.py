"""The task of giving a sequence of frames a class or a number, as the training loop sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import LengthGroupedBatches, sorted_batches
from regard.evaluate import accuracy, f1, macro, tally
from regard.models import FrameModel
from regard.train.config import OptimConfig
from regard.train.frames.batch import collate_frames
from regard.train.frames.dataset import FramesCorpus, FramesSplit
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss

__all__ = ["FramesTask", "outputs_of"]

_EVALUATION_FRAMES = 16384


class FramesTask:
    """A model of frames, its sequences and its loss: cross-entropy, or the error of standardised numbers.

    Implements ``Task``.

    Args:
        model: gives (batch, outputs).
        corpus: the splits.
        optim: batch size, learning rate and weight decay.
        seed: of the batches.
        hardware: device and autocast type.
    """

    def __init__(
        self, model: FrameModel, corpus: FramesCorpus, *, optim: OptimConfig, seed: int, hardware: Hardware
    ) -> None:
        self.model = model.to(hardware.device)
        self._corpus = corpus
        self._train = corpus.splits["train"]
        self._targets = torch.from_numpy(_targets(self._train, corpus))
        self._optim = optim
        self._hardware = hardware
        self._batches = LengthGroupedBatches(self._train.lengths, batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return batches of similar length: little padding, random order."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the loss of ``batch``, in nats or as a squared error of standardised numbers; tokens are patches."""
        frames, mask = collate_frames(self._train.frames, batch)
        outputs = _run(self.model, frames, mask, self._hardware).float()
        targets = self._targets[list(batch)].to(self._hardware.device)
        loss = F.mse_loss(outputs[:, 0], targets) if self._corpus.labels is None else F.cross_entropy(outputs, targets)
        patches = self.model.config.num_patches
        real = sum(patches(int(length)) for length in mask.sum(1))
        return BatchLoss(loss=loss, num_tokens=real, num_cells=len(batch) * patches(mask.shape[1]), weight=len(batch))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's groups, with and without weight decay."""
        return decayed_groups(self.model, lr=self._optim.lr, weight_decay=self._optim.weight_decay)

    def validate(self) -> dict[str, float]:
        """Return on the validation set loss, accuracy and macro F1, or loss and the absolute error in its own unit."""
        split = self._corpus.splits["validation"]
        outputs, targets = self.outputs(split), _targets(split, self._corpus)
        if self._corpus.numbers is not None:
            error = outputs[:, 0] - targets
            unit = float(self._corpus.numbers.scale[0])
            return {"loss": float(np.square(error).mean()), "mae": unit * float(np.abs(error).mean())}
        logs = outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)
        counts = tally(targets, outputs.argmax(axis=1), num_classes=outputs.shape[1])
        return {
            "loss": float(-logs[np.arange(len(targets)), targets].mean()),
            "accuracy": float(accuracy(counts)),
            "macro_f1": float(macro(f1(counts))),
        }

    def outputs(self, split: FramesSplit) -> npt.NDArray[np.float64]:
        """Return the outputs of the model, (sequences, outputs), in the order of ``split``."""
        return outputs_of(self.model, split.frames, self._hardware)


def outputs_of(
    model: FrameModel, frames: Sequence[npt.NDArray[np.float32]], hardware: Hardware | None = None
) -> npt.NDArray[np.float64]:
    """Return the outputs of ``model`` for standardised sequences, (sequences, outputs), in their order.

    Args:
        model: it is left in the mode that it has.
        frames: (frames, channels) each.
        hardware: device and autocast type; None for the CPU in float32.
    """
    was_training = model.training
    model.eval()
    lengths = [len(one) for one in frames]
    batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_EVALUATION_FRAMES, max(lengths)))
    with torch.inference_mode():
        found = [_run(model, *collate_frames(frames, batch), hardware).double().cpu() for batch in batches]
    model.train(was_training)
    outputs: npt.NDArray[np.float64] = torch.cat(found).numpy()[inverse]
    return outputs


def _run(model: FrameModel, frames: Tensor, mask: Tensor, hardware: Hardware | None) -> Tensor:
    if hardware is None:
        plain: Tensor = model(frames, mask)
        return plain
    device, autocast = hardware.device, hardware.precision != torch.float32
    with torch.autocast(device.type, dtype=hardware.precision, enabled=autocast):
        outputs: Tensor = model(frames.to(device), mask.to(device))
    return outputs


def _targets(split: FramesSplit, corpus: FramesCorpus) -> npt.NDArray[Any]:
    """Return the index of each class, int64, or each number, standardised, float32."""
    numbers = corpus.numbers
    return split.targets if numbers is None else numbers.apply(split.targets).astype(np.float32)
