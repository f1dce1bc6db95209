"""What BERT is trained for: masked words, classes of whole texts, and a tag for each token."""

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.models.bert import Bert
from regard.models.initialise import initialise
from regard.models.inputs import check_not_empty, keep_mask
from regard.modules import FastDropout

__all__ = ["BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification"]


class BertForMaskedLM(nn.Module):
    """BERT with a head that guesses words: linear, activation, layer norm, and a decoder tied to the word embeddings.

    Args:
        encoder: the encoder; it becomes ``bert``.

    References:
        Devlin et al., BERT, arXiv:1810.04805, section 3.1; Press and Wolf (tied decoder), arXiv:1608.05859.
    """

    def __init__(self, encoder: Bert) -> None:
        super().__init__()
        config = encoder.config
        self.bert = encoder
        self.transform = nn.Linear(config.embed_dim, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(encoder.embeddings.words.weight.new_zeros(config.vocab_size))
        initialise(self.transform)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        logits_at: Bool[Tensor, "batch len"] | None = None,
    ) -> Float[Tensor, "batch len vocab_size"] | Float[Tensor, "places vocab_size"]:
        """Return the logits of each word at each place.

        Args:
            input_ids: as for ``Bert``, as are the two after it.
            attention_mask: 1 = real token.
            token_type_ids: of the segments.
            logits_at: places to be guessed; the logits are then those of these places alone, one behind the other. The
                projection to the vocabulary is a large part of the work, and training needs 15 % of it.
        """
        states = self.bert(input_ids, attention_mask, token_type_ids)
        return self.logits(states if logits_at is None else states[logits_at])

    def logits(self, states: Float[Tensor, "*places embed_dim"]) -> Float[Tensor, "*places vocab_size"]:
        """Return the logits of each word, of hidden states of the encoder."""
        hidden = self.transform(states)
        hidden = self.norm(F.gelu(hidden) if self.bert.config.activation == "gelu" else F.relu(hidden))
        return F.linear(hidden, self.bert.embeddings.words.weight, self.bias)


class BertForSequenceClassification(nn.Module):
    """BERT with a linear layer over one vector per text.

    Args:
        encoder: the encoder; it becomes ``bert``.
        num_labels: number of classes.
        pooling: ``"mean"`` of the hidden states of the real tokens, or the ``"first"`` token's.
        dropout_p: dropout of the pooled vector.

    Raises:
        ArgumentError: fewer than two classes, or an unknown pooling.

    References:
        Devlin et al., BERT, arXiv:1810.04805; Reimers and Gurevych (mean pooling), arXiv:1908.10084.
    """

    def __init__(self, encoder: Bert, num_labels: int, *, pooling: str = "mean", dropout_p: float = 0.1) -> None:
        super().__init__()
        if num_labels < 2:
            raise ArgumentError(f"num_labels must be at least 2, got {num_labels}; one class needs no classifier.")
        if pooling not in ("mean", "first"):
            raise ArgumentError(f'pooling must be "mean" or "first", got {pooling!r}.')
        self.bert = encoder
        self.num_labels = num_labels
        self.pooling = pooling
        self.dropout = FastDropout(dropout_p)
        self.classifier = nn.Linear(encoder.config.embed_dim, num_labels)
        initialise(self.classifier)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Float[Tensor, "batch num_labels"]:
        """Return the logits of the classes; the arguments are those of ``Bert``.

        A text without a single real token has no mean: it is refused on a CPU and NaN elsewhere.
        """
        hidden = self.bert(input_ids, attention_mask, token_type_ids)
        pooled = hidden[:, 0] if self.pooling == "first" else _mean(hidden, keep_mask(attention_mask, input_ids.shape))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


class BertForTokenClassification(nn.Module):
    """BERT with a linear layer over each token's hidden state.

    Args:
        encoder: the encoder; it becomes ``bert``.
        num_labels: number of tags.
        dropout_p: dropout of the hidden states before the linear layer.

    Raises:
        ArgumentError: fewer than two tags.

    References:
        Devlin et al., BERT, arXiv:1810.04805, section 5.3.

    Example:
        >>> import torch
        >>> from regard.models import Bert, BertConfig
        >>> config = BertConfig(vocab_size=99, embed_dim=32, num_heads=2, num_layers=1, feed_forward_dim=64)
        >>> BertForTokenClassification(Bert(config), 5)(torch.tensor([[2, 17, 3]])).shape
        torch.Size([1, 3, 5])
    """

    def __init__(self, encoder: Bert, num_labels: int, *, dropout_p: float = 0.1) -> None:
        super().__init__()
        if num_labels < 2:
            raise ArgumentError(f"num_labels must be at least 2, got {num_labels}; one tag needs no tagger.")
        self.bert = encoder
        self.num_labels = num_labels
        self.dropout = FastDropout(dropout_p)
        self.classifier = nn.Linear(encoder.config.embed_dim, num_labels)
        initialise(self.classifier)

    def forward(
        self,
        input_ids: Int[Tensor, "batch len"],
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Float[Tensor, "batch len num_labels"]:
        """Return the logits of the tags at each place; the arguments are those of ``Bert``.

        At padding they mean nothing.
        """
        hidden = self.bert(input_ids, attention_mask, token_type_ids)
        logits: Tensor = self.classifier(self.dropout(hidden))
        return logits


def _mean(
    hidden: Float[Tensor, "batch len embed_dim"], keep: Bool[Tensor, "batch 1 1 len"] | None
) -> Float[Tensor, "batch embed_dim"]:
    """Return the mean over the real tokens of each text."""
    if keep is None:
        return hidden.mean(dim=1)
    real = keep[:, 0, 0]
    check_not_empty(real)
    return hidden.masked_fill(~real[:, :, None], 0.0).sum(dim=1) / real.sum(dim=1, keepdim=True)
