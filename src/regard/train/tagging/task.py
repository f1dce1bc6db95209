"""The task of tagging words, as the training loop sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import LengthGroupedBatches, WordWindows, collate, sorted_batches
from regard.evaluate import tag_figures
from regard.models import BertForTokenClassification
from regard.train.classification.config import ClassifierOptim
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss
from regard.train.tagging.corpus import IGNORED, EncodedSentences, TaggingCorpus
from regard.train.tagging.model import TaggingModel

__all__ = ["TaggerTask", "tags_of_windows", "word_places"]

_EVALUATION_TOKENS = 4096


class TaggerTask:
    """A tagger, its sentences and its loss; implements ``Task``.

    Args:
        model: gives logits (batch, len, tags).
        corpus: encoded splits.
        optim: batch size, learning rates and weight decay.
        seed: of the batches.
        hardware: device and autocast type.
    """

    def __init__(
        self, model: TaggingModel, corpus: TaggingCorpus, *, optim: ClassifierOptim, seed: int, hardware: Hardware
    ) -> None:
        self.model = model.to(hardware.device)
        self._corpus = corpus
        self._optim = optim
        self._hardware = hardware
        self._train = corpus.splits["train"]
        lengths = [len(ids) for ids in self._train.windows.ids]
        self._batches = LengthGroupedBatches(lengths, batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return batches of windows of similar length: little padding, random order."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the cross-entropy of the tags of the batch's words, its mean in nats; only first pieces are asked."""
        logits, mask = self._logits(self._train.windows, batch)
        targets = self._targets(self._train, batch)
        loss = F.cross_entropy(logits.float(), targets.to(logits.device), ignore_index=IGNORED)
        return BatchLoss(loss=loss, num_tokens=int(mask.sum()), num_cells=mask.numel(), weight=len(targets))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return groups: the encoder, perhaps pretrained, and the new head, each with and without weight decay."""
        optim, groups = self._optim, []
        encoder = self.model.bert if isinstance(self.model, BertForTokenClassification) else self.model.encoder
        for module, lr in ((encoder, optim.lr), (self.model.classifier, optim.head_lr)):
            groups += decayed_groups(module, lr=lr, weight_decay=optim.weight_decay)
        return groups

    def validate(self) -> dict[str, float]:
        """Return loss, token accuracy, macro F1 and, where tags spell spans, span F1 on the validation set.

        A tag that the training set does not have costs accuracy; it has no part in the loss.
        """
        split = self._corpus.splits["validation"]
        tags, nats = self._answers(split)
        known = nats[~np.isnan(nats)]
        loss = float(known.mean()) if len(known) else float("nan")
        return {"loss": loss, **tag_figures(split.sentences.tags, tags)}

    def predict(self, split: EncodedSentences) -> list[list[str]]:
        """Return per sentence of ``split`` the likeliest tag of each word."""
        return self._answers(split)[0]

    def _answers(self, split: EncodedSentences) -> tuple[list[list[str]], np.ndarray[Any, np.dtype[np.float64]]]:
        """Return the tags of each sentence, and -log P of each word's true tag, NaN where it is unknown."""
        was_training = self.model.training
        self.model.eval()
        batches, inverse = sorted_batches(
            [len(ids) for ids in split.windows.ids],
            tokens_per_batch=max(_EVALUATION_TOKENS, max(map(len, split.windows.ids))),
        )
        named: list[list[int]] = []
        nats: list[Tensor] = []
        with torch.inference_mode():
            for batch in batches:
                logits, _ = self._logits(split.windows, batch)
                sizes = [len(split.windows.first_pieces[index]) for index in batch]
                named += [best.tolist() for best in logits.argmax(-1).cpu().split(sizes)]
                targets = self._targets(split, batch)
                each = F.cross_entropy(logits.float().cpu(), targets, ignore_index=IGNORED, reduction="none").double()
                nats.append(each.masked_fill(targets == IGNORED, float("nan")))
        self.model.train(was_training)
        in_order = [named[place] for place in inverse]
        return tags_of_windows(split.windows, in_order, self._corpus.labels), torch.cat(nats).numpy()

    def _targets(self, split: EncodedSentences, batch: Sequence[int]) -> Tensor:
        return torch.tensor([target for index in batch for target in split.targets[index]])

    def _logits(self, windows: WordWindows, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the logits of all words of a batch, one behind the other, (words, tags), and its attention mask."""
        input_ids, attention_mask = collate(windows.ids, batch, self._corpus.tokenizer.pad_id)
        device = self._hardware.device
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            logits = self.model(input_ids.to(device), attention_mask=attention_mask.to(device))
        rows, places = word_places(windows, batch)
        return logits[rows.to(device), places.to(device)], attention_mask


def word_places(windows: WordWindows, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the row in the batch and the place in it of each word's first piece, (words,) each."""
    places = [windows.first_pieces[index] for index in batch]
    rows = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor([len(one) for one in places]))
    return rows, torch.tensor([place for one in places for place in one])


def tags_of_windows(windows: WordWindows, named: Sequence[Sequence[int]], labels: Sequence[str]) -> list[list[str]]:
    """Return per sentence the tags of its words, of the tag numbers of each window."""
    tags: list[list[str]] = [[] for _ in windows.lengths]
    for sentence, numbers in zip(windows.sentences, named, strict=True):
        tags[sentence] += [labels[number] for number in numbers]
    return tags
