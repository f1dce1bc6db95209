"""The tagger that a recipe names, and the one in a folder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from regard.models import (
    Bert,
    BertForTokenClassification,
    RecurrentForTokenClassification,
    count_parameters,
    load_token_classifier,
    save_recurrent,
    save_token_classifier,
    width_for,
)
from regard.models.own_checkpoint import recurrent_in
from regard.train.classification.model import new_encoder, new_recurrent_encoder, scratch_config
from regard.train.tagging.config import TaggerModel

__all__ = ["TaggingModel", "new_tagger", "open_tagger", "save_tagger"]

TaggingModel = BertForTokenClassification | RecurrentForTokenClassification


def new_tagger(
    settings: TaggerModel,
    num_labels: int,
    *,
    vocab_size: int,
    max_len: int,
    pad_id: int,
    attention_dtype: torch.dtype | None = None,
) -> TaggingModel:
    """Return the tagger before its first step; what is new in it is drawn from PyTorch's generator.

    Args:
        settings: the recipe's.
        num_labels: tags.
        vocab_size: token ids, for an encoder from scratch.
        max_len: longest sequence in tokens, for an encoder from scratch.
        pad_id: id of the padding token, for an encoder from scratch.
        attention_dtype: see ``regard.models.Bert``.

    Raises:
        MissingDependencyError: it begins with MiniLM, whose package is not installed.
        RecordError: the folder of the pretrained encoder lacks something.
        UnsupportedError: that folder holds another architecture.
        ArgumentError: no width of a recurrent network gives the Transformer's parameter count.
    """
    sizes = {"vocab_size": vocab_size, "pad_id": pad_id}
    if settings.architecture == "transformer":
        encoder = new_encoder(settings, max_len=max_len, attention_dtype=attention_dtype, **sizes)
        return BertForTokenClassification(encoder, num_labels, dropout_p=settings.dropout_p)

    def make(width: int) -> RecurrentForTokenClassification:
        network = new_recurrent_encoder(settings, width, **sizes)
        return RecurrentForTokenClassification(network, num_labels, dropout_p=settings.dropout_p)

    if settings.hidden_dim is not None:
        return make(settings.hidden_dim)
    with torch.device("meta"):
        attends = Bert(scratch_config(settings, max_len=max_len, **sizes))
        wanted = count_parameters(BertForTokenClassification(attends, num_labels))
    return make(width_for(wanted, make))


def save_tagger(model: TaggingModel, folder: Path, labels: Sequence[str]) -> None:
    """Write the tagger; a Transformer so that ``transformers`` reads it too, with the names of its tags."""
    if isinstance(model, RecurrentForTokenClassification):
        save_recurrent(model, folder)
    else:
        save_token_classifier(model, folder, labels)


def open_tagger(folder: Path, *, attention_dtype: torch.dtype | None = None) -> TaggingModel:
    """Load the tagger of a model folder, a Transformer or a recurrent one.

    Args:
        folder: what a run of a tagger wrote.
        attention_dtype: see ``regard.models.Bert``.

    Raises:
        RecordError: the folder does not hold a whole tagger.
    """
    recurrent = recurrent_in(folder, RecurrentForTokenClassification)
    return load_token_classifier(folder, attention_dtype=attention_dtype) if recurrent is None else recurrent
