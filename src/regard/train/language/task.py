"""The task of predicting the next token, as the training loop sees it."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import WindowBatches, consecutive_windows
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.language.config import LanguageOptim
from regard.train.language.corpus import LanguageCorpus
from regard.train.language.model import LanguageNetwork
from regard.train.loop import BatchLoss

__all__ = ["LanguageTask"]

_EVALUATION_TOKENS = 8192
_EVALUATION_LOGITS = 2**26  # bounds them at 256 MiB of float32, whatever the vocabulary


class LanguageTask:
    """A language model, its text and its loss; implements ``Task``.

    Args:
        model: gives logits (batch, len, vocab_size).
        corpus: encoded splits.
        window: tokens that the model sees at once.
        optim: batch size, learning rate and weight decay.
        seed: of the batches.
        hardware: device and autocast type.
    """

    def __init__(
        self,
        model: LanguageNetwork,
        corpus: LanguageCorpus,
        *,
        window: int,
        optim: LanguageOptim,
        seed: int,
        hardware: Hardware,
    ) -> None:
        self.model = model.to(hardware.device)
        self._corpus = corpus
        self._window = window
        self._optim = optim
        self._hardware = hardware
        self._train = torch.from_numpy(corpus.ids["train"])
        self._batches = WindowBatches(len(self._train), window=window, batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return where the windows of each batch begin."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the cross-entropy of the next token, in nats."""
        places = torch.tensor(batch)[:, None] + torch.arange(self._window + 1)
        tokens = self._train[places].to(self._hardware.device)
        logits = self._logits(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        count = tokens[:, 1:].numel()
        return BatchLoss(loss=loss, num_tokens=count, num_cells=count, weight=count)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups with and without weight decay."""
        return decayed_groups(self.model, lr=self._optim.lr, weight_decay=self._optim.weight_decay)

    def validate(self) -> dict[str, float]:
        """Return the loss in nats a token, and the perplexity, on the validation text."""
        nats = self.nats(self._corpus.ids["validation"])
        loss = float(nats.mean())
        return {"loss": loss, "perplexity": math.exp(loss)}

    def nats(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return -log P of each token but the first, given those before it in its window, (tokens - 1,)."""
        was_training = self.model.training
        self.model.eval()
        found = []
        with torch.inference_mode():
            for inputs, targets in self._rows(torch.from_numpy(ids)):
                logits = self._logits(inputs.to(self._hardware.device)).float()
                nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(logits.device), reduction="none")
                found.append(nats.double().cpu())
        self.model.train(was_training)
        joined: npt.NDArray[np.float64] = torch.cat(found).numpy()
        return joined

    def _rows(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of consecutive windows, many at once, the short last one alone."""
        windows = consecutive_windows(len(tokens), self._window)
        whole = [first for first, last in windows if last - first == self._window]
        most = min(_EVALUATION_TOKENS, _EVALUATION_LOGITS // self._corpus.tokenizer.vocab_size)
        size = max(1, most // self._window)
        for start in range(0, len(whole), size):
            places = torch.tensor(whole[start : start + size])[:, None] + torch.arange(self._window)
            yield tokens[places], tokens[places + 1]
        first, last = windows[-1]
        if last - first < self._window:
            yield tokens[None, first:last], tokens[None, first + 1 : last + 1]

    def _logits(self, input_ids: Tensor) -> Tensor:
        device = self._hardware.device
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            logits: Tensor = self.model(input_ids)
        return logits
