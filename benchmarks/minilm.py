"""MiniLM and real documents for it: a batch of Reuters R8, the model of transformers, and our own."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertModel
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from regard.data import collate, load_reuters_r8, load_tokenizer
from regard.models import BertForSequenceClassification, load_bert, minilm_folder
from regard.train import choose_hardware

__all__ = ["Batch", "TransformersClassifier", "our_model", "transformers_model"]

_NUM_LABELS = 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Token ids (batch, len), mask (batch, len) with 1 = real token, and labels (batch,)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    @classmethod
    def read(cls, num_tokens: int, batch_size: int) -> "Batch":
        """Return the first ``batch_size`` documents of about ``num_tokens`` tokens or more, cut to ``num_tokens``."""
        documents, _ = load_reuters_r8()
        tokenizer = load_tokenizer(minilm_folder())
        long = [row for row, text in enumerate(documents.texts) if len(text.split()) >= num_tokens // 2]
        encoded = tokenizer.encode([documents.texts[row] for row in long[: 40 * batch_size]], num_tokens)
        fits = [at for at, ids in enumerate(encoded.ids) if len(ids) >= 3 * num_tokens // 4][:batch_size]
        names = sorted(set(documents.labels))
        input_ids, mask = collate(encoded.ids, fits, tokenizer.pad_id)
        labels = torch.tensor([names.index(documents.labels[long[at]]) for at in fits])
        return cls(input_ids=input_ids, attention_mask=mask.long(), labels=labels)

    @property
    def num_tokens(self) -> int:
        """Real tokens."""
        return int(self.attention_mask.sum())

    @property
    def padding_share(self) -> float:
        """Share of the cells that hold no token."""
        return 1 - self.num_tokens / self.attention_mask.numel()

    def cut(self, num_tokens: int) -> "Batch":
        """Return the first ``num_tokens`` tokens of every document."""
        return Batch(
            input_ids=self.input_ids[:, :num_tokens],
            attention_mask=self.attention_mask[:, :num_tokens],
            labels=self.labels,
        )


class TransformersClassifier(nn.Module):
    """Hugging Face's BERT with a linear layer over the mean of the hidden states."""

    def __init__(self, folder: Path, implementation: str) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(
            folder,
            add_pooling_layer=False,
            attn_implementation=implementation,
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.1,
        )
        self.classifier = nn.Linear(self.bert.config.hidden_size, _NUM_LABELS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *, maps: bool = False) -> tuple[Tensor, tuple[Tensor]]:
        """Return logits (batch, classes) and, if asked, weights (batch, heads, q_len, kv_len) per layer."""
        found = self.bert(input_ids, attention_mask=attention_mask, output_attentions=maps)
        return self.classifier(found.last_hidden_state.mean(dim=1)), found.attentions


def transformers_model(implementation: str) -> TransformersClassifier:
    """Return the model of transformers whose attention is ``"sdpa"`` or ``"eager"``."""
    torch.manual_seed(0)
    set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    return TransformersClassifier(minilm_folder(), implementation)


def our_model(precision: torch.dtype) -> BertForSequenceClassification:
    """Return our model as the demo trains it under autocast to ``precision``."""
    torch.manual_seed(0)
    attention_dtype = choose_hardware("cpu", "auto").attention_dtype if precision != torch.float32 else None
    encoder = load_bert(minilm_folder(), dropout_p=0.1, attention_dropout_p=0.0, attention_dtype=attention_dtype)
    return BertForSequenceClassification(encoder, _NUM_LABELS)
