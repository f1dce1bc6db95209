"""The task of classifying documents, as the training loop sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import LengthGroupedBatches, collate, sorted_batches
from regard.evaluate import accuracy, f1, macro, tally
from regard.models import BertForSequenceClassification
from regard.train.classification.config import ClassifierOptim
from regard.train.classification.corpus import Corpus, EncodedSplit
from regard.train.classification.model import ClassifierModel
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss

__all__ = ["ClassifierTask"]

_EVALUATION_TOKENS = 4096


class ClassifierTask:
    """A classifier, its documents and its loss; implements ``Task``.

    Args:
        model: gives logits (batch, classes).
        corpus: encoded splits.
        optim: batch size, learning rates and weight decay.
        seed: of the batches.
        hardware: device and autocast type.
        pad_id: token number of padding.
    """

    def __init__(
        self,
        model: ClassifierModel,
        corpus: Corpus,
        *,
        optim: ClassifierOptim,
        seed: int,
        hardware: Hardware,
        pad_id: int,
    ) -> None:
        self.model = model.to(hardware.device)
        self._corpus = corpus
        self._optim = optim
        self._train = corpus.splits["train"]
        self._targets = torch.tensor(self._train.targets)
        self._hardware = hardware
        self._pad_id = pad_id
        lengths = [len(ids) for ids in self._train.ids]
        self._batches = LengthGroupedBatches(lengths, batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return batches of similar length: little padding, random order."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the cross-entropy of ``batch``, in nats."""
        logits, mask = self._logits(self._train, batch)
        targets = self._targets[list(batch)].to(self._hardware.device)
        loss = F.cross_entropy(logits.float(), targets)
        return BatchLoss(loss=loss, num_tokens=int(mask.sum()), num_cells=mask.numel(), weight=len(batch))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups: the encoder, perhaps pretrained, and the new head, each with and without weight decay.

        Biases and normalisation weights, the parameters of one axis, do not decay.
        """
        optim, groups = self._optim, []
        encoder = self.model.bert if isinstance(self.model, BertForSequenceClassification) else self.model.encoder
        for module, lr in ((encoder, optim.lr), (self.model.classifier, optim.head_lr)):
            groups += decayed_groups(module, lr=lr, weight_decay=optim.weight_decay)
        return groups

    def validate(self) -> dict[str, float]:
        """Return loss, accuracy and macro F1 on the validation set."""
        split = self._corpus.splits["validation"]
        probabilities = self.predict(split)
        targets = np.asarray(split.targets)
        predicted = probabilities.argmax(axis=1)
        counts = tally(targets, predicted, num_classes=len(self._corpus.labels))
        likelihood = np.clip(probabilities[np.arange(len(targets)), targets], np.finfo(np.float64).tiny, 1.0)
        return {
            "loss": float(-np.log(likelihood).mean()),
            "accuracy": float(accuracy(counts)),
            "macro_f1": float(macro(f1(counts))),
        }

    def predict(self, split: EncodedSplit) -> npt.NDArray[np.float64]:
        """Return class probabilities (documents, classes), in the order of ``split``."""
        was_training = self.model.training
        self.model.eval()
        lengths = [len(ids) for ids in split.ids]
        batches, inverse = sorted_batches(lengths, tokens_per_batch=max(_EVALUATION_TOKENS, max(lengths)))
        outputs = []
        with torch.inference_mode():
            for batch in batches:
                logits, _ = self._logits(split, batch)
                outputs.append(logits.double().softmax(dim=-1).cpu())
        self.model.train(was_training)
        probabilities: npt.NDArray[np.float64] = torch.cat(outputs).numpy()[inverse]
        return probabilities

    def _logits(self, split: EncodedSplit, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        input_ids, attention_mask = collate(split.ids, batch, self._pad_id)
        device = self._hardware.device
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            logits = self.model(input_ids.to(device), attention_mask=attention_mask.to(device))
        return logits, attention_mask
