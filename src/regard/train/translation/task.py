"""The task of translating, as the training loop sees it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import PairBatches, Tokenizer, collate
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss
from regard.train.translation.config import TranslatorOptim
from regard.train.translation.corpus import EncodedPairs, PairsCorpus
from regard.train.translation.model import TranslationNetwork

__all__ = ["TranslatorTask"]

_VALIDATION_TOKENS = 8192


class TranslatorTask:
    """An encoder–decoder, its pairs of texts and its loss; implements ``Task``.

    Args:
        model: gives logits of the next target token.
        corpus: encoded splits.
        optim: tokens of a batch, learning rate, weight decay, label smoothing.
        seed: of the batches.
        hardware: device and autocast type.
    """

    def __init__(
        self, model: TranslationNetwork, corpus: PairsCorpus, *, optim: TranslatorOptim, seed: int, hardware: Hardware
    ) -> None:
        self.model = model.to(hardware.device)
        self._tokenizer: Tokenizer = corpus.tokenizer
        self._train, self._validation = corpus.splits["train"], corpus.splits["validation"]
        self._optim = optim
        self._hardware = hardware
        self._batches = _batches(self._train, optim.tokens_per_batch, seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return batches whose two sides are of similar lengths: little padding, random order."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the cross-entropy of the next token, its mean over the target tokens of ``batch``, in nats.

        With label smoothing ε each target is 1 - ε of the token and ε of all tokens alike.

        References:
            Szegedy et al., Rethinking the Inception architecture, arXiv:1512.00567, section 7.
        """
        logits, labels, cells = self._run(self._train, batch)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self._optim.label_smoothing)
        real = sum(len(side[index]) for side in (self._train.source, self._train.target) for index in batch)
        return BatchLoss(loss=loss, num_tokens=real, num_cells=cells, weight=len(labels))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return two groups: matrices, which decay, and biases and norms."""
        return decayed_groups(self.model, lr=self._optim.lr, weight_decay=self._optim.weight_decay)

    def validate(self) -> dict[str, float]:
        """Return loss, perplexity and accuracy of the next token on the validation set, given the true ones before."""
        nats, right, count = 0.0, 0, 0
        longest = max(max(map(len, side)) for side in (self._validation.source, self._validation.target))
        batches = _batches(self._validation, max(_VALIDATION_TOKENS, longest), 0)
        with torch.inference_mode():
            for batch in batches.batches(0):
                logits, labels, _ = self._run(self._validation, batch)
                nats += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
                right += int((logits.argmax(-1) == labels).sum())
                count += len(labels)
        loss = nats / count
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "token_accuracy": right / count}

    def _run(self, split: EncodedPairs, batch: Sequence[int]) -> tuple[Tensor, Tensor, int]:
        """Return the logits and ids of all target tokens of a batch, one behind the other, and the cells of the batch.

        The projection to the vocabulary, the largest of all, is made of real tokens alone.
        """
        device, tokenizer = self._hardware.device, self._tokenizer
        source, source_mask = collate(split.source, batch, tokenizer.pad_id)
        labels, mask = collate(split.target, batch, tokenizer.pad_id)
        begin = torch.full((len(batch), 1), tokenizer.bos_id)
        given = (source, torch.cat((begin, labels[:, :-1]), 1), source_mask, mask)
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            logits = self.model(*(one.to(device) for one in given), logits_at=mask.to(device))
        return logits, labels[mask].to(device), source.numel() + labels.numel()


def _batches(split: EncodedPairs, tokens: int, seed: int) -> PairBatches:
    source, target = ([len(ids) for ids in side] for side in (split.source, split.target))
    return PairBatches(source, target, tokens_per_batch=tokens, seed=seed)
