"""Model folders in Hugging Face's layout: ``config.json`` and ``model.safetensors``, read and written without it.

Other software that reads BERT reads what is written here. Two things have no counterpart there: our encoder has no
pooler, so none is written, and the classifier pools by itself, so its part lies under ``regard`` in ``config.json`` and
under ``regard.classifier`` among the weights, where ``transformers`` does not mistake it for its own. A tagger is the
same there as here, and has the same names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from regard._errors import ArgumentError, RecordError
from regard.models._hf.bert import canonical_name, config_from_hf, config_to_hf, hf_name
from regard.models.bert import Bert
from regard.models.config import BertConfig
from regard.models.heads import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
from regard.models.weight_files import read_config, read_weights, write_weights

__all__ = [
    "load_bert",
    "load_classifier",
    "load_masked_lm",
    "load_token_classifier",
    "save_bert",
    "save_classifier",
    "save_masked_lm",
    "save_token_classifier",
]

_OF_ENCODER = ("pooler.*", "embeddings.position_ids")
_OF_HEADS = ("cls.*", "classifier.*", "regard.classifier.*")
_TAGGER = "BertForTokenClassification"
_TWO_LABELS = ("LABEL_0", "LABEL_1")  # of a file without names, as transformers reads and writes it
_OF_MASKED_LM = ("cls.seq_relationship.*", "cls.predictions.decoder.*")

_Model = TypeVar("_Model", bound=nn.Module)


def load_bert(
    folder: Path | str,
    *,
    dropout_p: float | None = None,
    attention_dropout_p: float | None = None,
    attention_dtype: torch.dtype | None = None,
    ignore: Sequence[str] = (*_OF_ENCODER, *_OF_HEADS),
) -> Bert:
    """Load an encoder in float32, whatever the file's precision.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``.
        dropout_p: instead of the config's; None keeps that.
        attention_dropout_p: instead of the config's; None keeps that.
        attention_dtype: see ``Bert``.
        ignore: patterns of keys of the file that the encoder may leave unused (without ``bert.`` before them); by
            default the pooler, the position numbers that old files carry, and the heads.

    Returns:
        The encoder, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a key is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds another architecture.
    """
    folder = Path(folder)
    config = _config(folder)
    config = replace(
        config,
        dropout_p=config.dropout_p if dropout_p is None else dropout_p,
        attention_dropout_p=config.attention_dropout_p if attention_dropout_p is None else attention_dropout_p,
    )
    return _filled(lambda: Bert(config, attention_dtype=attention_dtype), folder, ignore)


def load_masked_lm(folder: Path | str, *, attention_dtype: torch.dtype | None = None) -> BertForMaskedLM:
    """Load an encoder with its head for masked words.

    Raises:
        RecordError: a file is absent or damaged, or a key is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds another architecture.
    """
    folder = Path(folder)
    config = _config(folder)
    ignore = (*_OF_ENCODER, *_OF_MASKED_LM)
    return _filled(lambda: BertForMaskedLM(Bert(config, attention_dtype=attention_dtype)), folder, ignore)


def load_classifier(folder: Path | str, *, attention_dtype: torch.dtype | None = None) -> BertForSequenceClassification:
    """Load what ``save_classifier`` wrote.

    Raises:
        RecordError: a file is absent or damaged, the folder holds no classifier of regard, or a key is missing,
            unexpected or of another shape; it is named.
    """
    folder = Path(folder)
    config, values = _config(folder), read_config(folder)
    head = values.get("regard")
    if not isinstance(head, dict) or set(head) != {"num_labels", "pooling", "dropout_p"}:
        raise RecordError(f"{folder / 'config.json'} must describe a classifier under 'regard', got {head!r}.")

    def make() -> BertForSequenceClassification:
        return BertForSequenceClassification(Bert(config, attention_dtype=attention_dtype), **head)

    return _filled(make, folder, _OF_ENCODER)


def load_token_classifier(
    folder: Path | str, *, attention_dtype: torch.dtype | None = None
) -> BertForTokenClassification:
    """Load a tagger: what ``save_token_classifier`` wrote, or ``transformers``' ``BertForTokenClassification``.

    Raises:
        RecordError: a file is absent or damaged, the folder holds no tagger, or a key is missing, unexpected or of
            another shape; it is named.
        UnsupportedError: the folder holds another architecture.
    """
    folder = Path(folder)
    config, values = _config(folder), read_config(folder)
    if values.get("architectures") != [_TAGGER]:
        raise RecordError(f"{folder / 'config.json'} must have architectures [{_TAGGER!r}], got another model.")
    num_labels = len(values.get("id2label", _TWO_LABELS))
    rate = values.get("classifier_dropout")
    dropout_p = config.dropout_p if rate is None else rate

    def make() -> BertForTokenClassification:
        encoder = Bert(config, attention_dtype=attention_dtype)
        return BertForTokenClassification(encoder, num_labels, dropout_p=dropout_p)

    return _filled(make, folder, _OF_ENCODER, name=_name_in_tagger)


def save_bert(model: Bert, folder: Path | str) -> None:
    """Write an encoder so that ``load_bert`` and ``transformers``' ``BertModel`` load it; each file is written whole.

    Raises:
        RecordError: the files cannot be written.
    """
    _save(model, Path(folder), config_to_hf(model.config, architecture="BertModel"))


def save_masked_lm(model: BertForMaskedLM, folder: Path | str) -> None:
    """Write a masked language model so that ``load_masked_lm`` and ``transformers``' ``BertForMaskedLM`` load it.

    Raises:
        RecordError: the files cannot be written.
    """
    content = {**config_to_hf(model.bert.config, architecture="BertForMaskedLM"), "tie_word_embeddings": True}
    _save(model, Path(folder), content)


def save_classifier(model: BertForSequenceClassification, folder: Path | str) -> None:
    """Write a classifier so that ``load_classifier`` loads it, and ``load_bert`` and ``transformers`` its encoder.

    Raises:
        RecordError: the files cannot be written.
    """
    head = {"num_labels": model.num_labels, "pooling": model.pooling, "dropout_p": model.dropout.p}
    _save(model, Path(folder), {**config_to_hf(model.bert.config, architecture="BertModel"), "regard": head})


def save_token_classifier(
    model: BertForTokenClassification, folder: Path | str, labels: Sequence[str] | None = None
) -> None:
    """Write a tagger so that ``load_token_classifier`` and ``transformers``' ``BertForTokenClassification`` load it.

    Args:
        model: the tagger.
        folder: where to; each file is written whole.
        labels: names of the tags in the order of the outputs; ``LABEL_0``, … if not given.

    Raises:
        ArgumentError: not one name for each tag, or a name twice.
        RecordError: the files cannot be written.
    """
    names = [f"LABEL_{number}" for number in range(model.num_labels)] if labels is None else list(labels)
    if len(names) != model.num_labels or len(set(names)) != len(names):
        raise ArgumentError(f"labels must hold one name for each of {model.num_labels} tags, got {names}.")
    head = {
        "classifier_dropout": model.dropout.p,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    content = {**config_to_hf(model.bert.config, architecture=_TAGGER), **head}
    _save(model, Path(folder), content, name=_name_in_tagger)


def _name_in_tagger(name: str) -> str:
    return name if name.startswith("classifier.") else hf_name(name)


def _save(model: nn.Module, folder: Path, config: dict[str, Any], *, name: Callable[[str], str] = hf_name) -> None:
    write_weights(folder, {name(ours): tensor for ours, tensor in model.state_dict().items()}, config)


def _config(folder: Path) -> BertConfig:
    return config_from_hf(read_config(folder), source=str(folder / "config.json"))


def _filled(
    make: Callable[[], _Model], folder: Path, ignore: Sequence[str], *, name: Callable[[str], str] = hf_name
) -> _Model:
    """Return a model with the weights of ``folder``, without drawing random ones first."""
    with torch.device("meta"):
        model = make()
    tensors = model.state_dict()
    names = {ours: _without_prefix(name(ours)) for ours in tensors}
    needed = {names[ours]: tensor.shape for ours, tensor in tensors.items()}
    read = read_weights(folder / "model.safetensors", needed, key=_without_prefix, ignore=ignore)
    model.load_state_dict({ours: read[theirs] for ours, theirs in names.items()}, assign=True)
    return model


def _without_prefix(key: str) -> str:
    """Return a file's name of a weight without the ``bert.`` that files with a head put before the encoder's."""
    return canonical_name(key).removeprefix("bert.")
