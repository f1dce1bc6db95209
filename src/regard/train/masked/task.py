"""The task of guessing masked words, as the training loop sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import LengthGroupedBatches
from regard.models import BertForMaskedLM
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss
from regard.train.masked.config import MaskedOptim
from regard.train.masked.corpus import MaskedCorpus
from regard.train.masked.masking import Masking

__all__ = ["Guesses", "MaskedTask"]

_EVALUATION_WINDOWS = 32


class Guesses:
    """What was to be guessed in the windows of a split, and how well it was.

    Attributes:
        nats: -log P of each hidden token.
        right: whether the likeliest token was it.
        windows: the window of each.
        places: its place in the window.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        joined = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
        self.nats, self.right, self.windows, self.places = joined


class MaskedTask:
    """A masked language model, its windows and its loss; implements ``Task``.

    Args:
        model: gives logits (batch, len, vocab_size).
        corpus: windows of all splits.
        masking: which tokens are hidden.
        optim: batch size, learning rate and weight decay.
        seed: of the batches, and of what is hidden in validation and test.
        hardware: device and autocast type.
    """

    def __init__(
        self,
        model: BertForMaskedLM,
        corpus: MaskedCorpus,
        *,
        masking: Masking,
        optim: MaskedOptim,
        seed: int,
        hardware: Hardware,
    ) -> None:
        self.model = model.to(hardware.device)
        self._corpus = corpus
        self._masking = masking
        self._optim = optim
        self._seed = seed
        self._hardware = hardware
        self._train = torch.from_numpy(corpus.windows["train"])
        lengths = [self._train.shape[1]] * len(self._train)
        self._batches = LengthGroupedBatches(lengths, batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the windows of each batch."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the cross-entropy of the tokens to guess, hidden anew each time, in nats."""
        tokens = self._train[list(batch)]
        read, guessed = self._masking(tokens)
        logits = self._logits(read, guessed).float()
        loss = F.cross_entropy(logits, tokens[guessed].to(logits.device))
        return BatchLoss(loss=loss, num_tokens=tokens.numel(), num_cells=tokens.numel(), weight=int(guessed.sum()))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups with and without weight decay."""
        return decayed_groups(self.model, lr=self._optim.lr, weight_decay=self._optim.weight_decay)

    def validate(self) -> dict[str, float]:
        """Return the loss in nats and the accuracy of guesses in the validation part."""
        guesses = self.guess(self._corpus.windows["validation"])
        return {"loss": float(guesses.nats.mean()), "accuracy": float(guesses.right.mean())}

    def guess(self, windows: npt.NDArray[np.int64]) -> Guesses:
        """Guess what the seed hides in ``windows``, the same tokens each time."""
        was_training = self.model.training
        self.model.eval()
        generator = torch.Generator().manual_seed(self._seed)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(windows), _EVALUATION_WINDOWS):
                tokens = torch.from_numpy(windows[start : start + _EVALUATION_WINDOWS])
                read, guessed = self._masking(tokens, generator)
                logits = self._logits(read, guessed).float().cpu()
                targets = tokens[guessed]
                nats = F.cross_entropy(logits, targets, reduction="none").double()
                rows, places = guessed.nonzero(as_tuple=True)
                parts.append((nats, (logits.argmax(-1) == targets).double(), rows + start, places))
        self.model.train(was_training)
        return Guesses(parts)

    def _logits(self, input_ids: Tensor, places: Tensor) -> Tensor:
        device = self._hardware.device
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            logits: Tensor = self.model(input_ids.to(device), logits_at=places.to(device))
        return logits
