"""A small BERT that starts from scratch: the documents it learns from, our model, and the one of transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from regard.data import train_wordpiece
from regard.models import BertForSequenceClassification
from regard.modules import MultiHeadAttention
from regard.records import Run
from regard.train import ClassifierConfig, Silent, configure
from regard.train.classification.corpus import Corpus, build_corpus
from regard.train.classification.model import new_classifier

__all__ = ["SmallBert", "TransformersClassifier"]

_QUICK = ("data.max_train=400", "data.max_test=100", "data.max_len=16", "optim.epochs=1")
_QUICK_MODEL = ("model.num_layers=1", "model.embed_dim=32", "model.num_heads=2", "model.vocab_size=200")


class SmallBert:
    """The recipe ``from-scratch``: its config, its documents of Reuters R8, and models of its sizes.

    Args:
        folder: the records of reading the documents go below it.
        quick: tiny sizes.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        settings = ["device=cpu", *(_QUICK + _QUICK_MODEL if quick else ())]
        self.config: ClassifierConfig = configure("from-scratch", settings)
        vocab_size = self.config.model.vocab_size
        assert vocab_size is not None, "the recipe starts from scratch"
        self.corpus: Corpus = build_corpus(
            self.config.data,
            lambda texts: train_wordpiece(texts, vocab_size=vocab_size),
            seed=self.config.seed,
            run=Run.create(folder / "documents", recipe=self.config.recipe),
            progress=Silent(),
        )

    @property
    def pad_id(self) -> int:
        """Number of the padding token."""
        return self.corpus.tokenizer.pad_id

    @property
    def num_tokens(self) -> int:
        """Real tokens of an epoch."""
        return sum(len(ids) for ids in self.corpus.splits["train"].ids)

    def ours(self, *, attention_dtype: torch.dtype | None = None, impl: str = "auto") -> BertForSequenceClassification:
        """Return our model with the recipe's random weights, its attention in ``attention_dtype`` on ``impl``."""
        torch.manual_seed(self.config.seed)
        model = new_classifier(
            self.config.model,
            len(self.corpus.labels),
            vocab_size=self.corpus.tokenizer.vocab_size,
            max_len=self.config.data.max_len,
            pad_id=self.pad_id,
            attention_dtype=attention_dtype,
        )
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                module.impl = impl
        return model

    def theirs(self, **changes: Any) -> transformers.BertForSequenceClassification:
        """Return transformers' model of the same sizes as people make it; ``changes`` are those of its config."""
        torch.manual_seed(self.config.seed)
        return transformers.BertForSequenceClassification(self._their_config(**changes))

    def theirs_of_equal_work(self, *, attention_dropout_p: float) -> "TransformersClassifier":
        """Return transformers' encoder below what ours does behind it, with the same other dropout."""
        torch.manual_seed(self.config.seed)
        return TransformersClassifier(self._their_config(attention_probs_dropout_prob=attention_dropout_p))

    def _their_config(self, **changes: Any) -> transformers.BertConfig:
        set_verbosity_error()  # type: ignore[no-untyped-call]
        disable_progress_bar()  # type: ignore[no-untyped-call]
        sizes = self.ours().bert.config
        return transformers.BertConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.embed_dim,
            num_hidden_layers=sizes.num_layers,
            num_attention_heads=sizes.num_heads,
            intermediate_size=sizes.feed_forward_dim,
            max_position_embeddings=sizes.max_len,
            pad_token_id=self.pad_id,
            num_labels=len(self.corpus.labels),
            **changes,
        )


class TransformersClassifier(nn.Module):
    """Transformers' BERT, the mean over real tokens, dropout, and a linear layer: what our classifier computes."""

    def __init__(self, config: transformers.BertConfig) -> None:
        super().__init__()
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        real = attention_mask.bool()
        mean = hidden.masked_fill(~real[:, :, None], 0.0).sum(dim=1) / real.sum(dim=1, keepdim=True)
        logits: Tensor = self.classifier(self.dropout(mean))
        return logits
