"""The classifier that a recipe names: on a pretrained encoder, or from scratch; and that encoder, for other heads."""

from pathlib import Path

import torch

from regard.models import (
    Bert,
    BertConfig,
    BertForSequenceClassification,
    Recurrent,
    RecurrentConfig,
    RecurrentForSequenceClassification,
    count_parameters,
    load_bert,
    minilm_folder,
    width_for,
)
from regard.train.classification.config import EncoderConfig, ModelConfig

__all__ = [
    "ClassifierModel",
    "model_name",
    "new_classifier",
    "new_encoder",
    "new_recurrent_encoder",
    "pretrained_folder",
    "scratch_config",
]

ClassifierModel = BertForSequenceClassification | RecurrentForSequenceClassification

_FEED_FORWARD = 4  # times the width, as in BERT


def pretrained_folder(settings: EncoderConfig) -> Path | None:
    """Return where the pretrained encoder and its tokenizer are; None for a model that starts from scratch.

    Raises:
        MissingDependencyError: it is MiniLM, whose package is not installed.
    """
    if isinstance(settings.pretrained, Path):
        return settings.pretrained
    return minilm_folder() if settings.pretrained == "minilm" else None


def model_name(settings: EncoderConfig) -> str:
    """Return what a person reads, such as ``BERT of 4 layers and width 256 from scratch``."""
    if settings.architecture != "transformer":
        layers = "1 layer" if settings.recurrent_layers == 1 else f"{settings.recurrent_layers} layers"
        return f"{settings.architecture.upper()} of {layers} from scratch"
    if settings.pretrained == "none":
        layers = "1 layer" if settings.num_layers == 1 else f"{settings.num_layers} layers"
        return f"BERT of {layers} and width {settings.embed_dim} from scratch"
    return "MiniLM" if settings.pretrained == "minilm" else settings.pretrained.name


def new_classifier(
    settings: ModelConfig,
    num_labels: int,
    *,
    vocab_size: int,
    max_len: int,
    pad_id: int,
    attention_dtype: torch.dtype | None = None,
) -> ClassifierModel:
    """Return the classifier before its first step; what is new in it is drawn from PyTorch's generator.

    Args:
        settings: the recipe's.
        num_labels: classes.
        vocab_size: token ids, for an encoder from scratch.
        max_len: longest sequence in tokens, for an encoder from scratch.
        pad_id: id of the padding token, for an encoder from scratch.
        attention_dtype: see ``Bert``.

    Raises:
        MissingDependencyError: it begins with MiniLM, whose package is not installed.
        RecordError: the folder of the pretrained encoder lacks something.
        UnsupportedError: that folder holds another architecture.
        ArgumentError: no width of a recurrent network gives the Transformer's parameter count.
    """
    if settings.architecture != "transformer":
        return _recurrent(settings, num_labels, vocab_size=vocab_size, max_len=max_len, pad_id=pad_id)
    encoder = new_encoder(
        settings, vocab_size=vocab_size, max_len=max_len, pad_id=pad_id, attention_dtype=attention_dtype
    )
    return BertForSequenceClassification(encoder, num_labels, pooling=settings.pooling, dropout_p=settings.dropout_p)


def new_encoder(
    settings: EncoderConfig, *, vocab_size: int, max_len: int, pad_id: int, attention_dtype: torch.dtype | None = None
) -> Bert:
    """Return the Transformer encoder, pretrained or from scratch; arguments and errors as for ``new_classifier``."""
    folder = pretrained_folder(settings)
    if folder is None:
        config = scratch_config(settings, vocab_size=vocab_size, max_len=max_len, pad_id=pad_id)
        return Bert(config, attention_dtype=attention_dtype)
    return load_bert(
        folder,
        dropout_p=settings.dropout_p,
        attention_dropout_p=settings.attention_dropout_p,
        attention_dtype=attention_dtype,
    )


def new_recurrent_encoder(settings: EncoderConfig, width: int, *, vocab_size: int, pad_id: int) -> Recurrent:
    """Return a recurrent encoder that reads both ways, of ``width``."""
    config = RecurrentConfig(
        cell=settings.architecture,
        vocab_size=vocab_size,
        embed_dim=settings.embed_dim or width,
        hidden_dim=width,
        num_layers=settings.recurrent_layers,
        bidirectional=True,
        dropout_p=settings.dropout_p,
        pad_id=pad_id,
    )
    return Recurrent(config)


def _recurrent(
    settings: ModelConfig, num_labels: int, *, vocab_size: int, max_len: int, pad_id: int
) -> RecurrentForSequenceClassification:
    """Return a recurrent classifier, of the Transformer's parameter count where the recipe gives no width."""

    def make(width: int) -> RecurrentForSequenceClassification:
        encoder = new_recurrent_encoder(settings, width, vocab_size=vocab_size, pad_id=pad_id)
        return RecurrentForSequenceClassification(encoder, num_labels, dropout_p=settings.dropout_p)

    if settings.hidden_dim is not None:
        return make(settings.hidden_dim)
    with torch.device("meta"):
        encoder = Bert(scratch_config(settings, vocab_size=vocab_size, max_len=max_len, pad_id=pad_id))
        wanted = count_parameters(BertForSequenceClassification(encoder, num_labels))
    return make(width_for(wanted, make))


def scratch_config(settings: EncoderConfig, *, vocab_size: int, max_len: int, pad_id: int) -> BertConfig:
    """Return the config of an encoder that starts from scratch."""
    sizes = (settings.num_layers, settings.embed_dim, settings.num_heads)
    num_layers, embed_dim, num_heads = (size for size in sizes if size is not None)
    return BertConfig(
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        num_heads=num_heads,
        num_layers=num_layers,
        feed_forward_dim=_FEED_FORWARD * embed_dim,
        max_len=max_len,
        pad_id=pad_id,
        dropout_p=settings.dropout_p,
        attention_dropout_p=settings.attention_dropout_p,
    )
