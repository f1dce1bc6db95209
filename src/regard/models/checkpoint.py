"""Model folders in Hugging Face's layout: ``config.json`` and ``model.safetensors``, read and written without it.

Other software that reads BERT reads what is written here. Two things have no counterpart there: our encoder has no
pooler, so none is written, and the classifier pools by itself, so its part lies under ``regard`` in ``config.json`` and
under ``regard.classifier`` among the weights, where ``transformers`` does not mistake it for its own.
"""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from regard._errors import RecordError
from regard.models._hf.bert import canonical_name, config_from_hf, config_to_hf, hf_name
from regard.models.bert import Bert
from regard.models.config import BertConfig
from regard.models.heads import BertForMaskedLM, BertForSequenceClassification
from regard.records import atomic_path, write_json

__all__ = ["load_bert", "load_classifier", "load_masked_lm", "save_bert", "save_classifier", "save_masked_lm"]

_OF_ENCODER = ("pooler.*", "embeddings.position_ids")
_OF_HEADS = ("cls.*", "classifier.*", "regard.classifier.*")
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
    config, values = _config(folder), _json(folder / "config.json")
    head = values.get("regard")
    if not isinstance(head, dict) or set(head) != {"num_labels", "pooling", "dropout_p"}:
        raise RecordError(f"{folder / 'config.json'} must describe a classifier under 'regard', got {head!r}.")

    def make() -> BertForSequenceClassification:
        return BertForSequenceClassification(Bert(config, attention_dtype=attention_dtype), **head)

    return _filled(make, folder, _OF_ENCODER)


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


def _save(model: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    weights = {hf_name(name): tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        write_json(folder / "config.json", config)
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{folder} must be a folder with room for the model, got: {error}.") from error


def _config(folder: Path) -> BertConfig:
    path = folder / "config.json"
    return config_from_hf(_json(path), source=str(path))


def _json(path: Path) -> dict[str, Any]:
    try:
        values = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"A model folder with {path.name} is needed, got {path} ({error.strerror}).") from error
    except orjson.JSONDecodeError as error:
        raise RecordError(f"{path} must hold JSON, got something else ({error}); the file is damaged.") from error
    if not isinstance(values, dict):
        raise RecordError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return values


def _filled(make: Callable[[], _Model], folder: Path, ignore: Sequence[str]) -> _Model:
    """Return a model with the weights of ``folder``, without drawing random ones first."""
    with torch.device("meta"):
        model = make()
    path = folder / "model.safetensors"
    needed = {name: (hf_name(name), tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(_read(path, needed, ignore), assign=True)
    return model


def _read(path: Path, needed: Mapping[str, tuple[str, torch.Size]], ignore: Sequence[str]) -> dict[str, Tensor]:
    """Return our name -> tensor for each of ``needed``, out of a file that may put ``bert.`` before the encoder."""
    try:
        with safe_open(path, framework="pt") as file:
            keys = {canonical_name(key).removeprefix("bert."): key for key in file.keys()}  # noqa: SIM118 (not a dict)
            _compare(path, set(keys), {theirs.removeprefix("bert.") for theirs, _ in needed.values()}, ignore)
            return {
                ours: _tensor(path, file, keys[theirs.removeprefix("bert.")], shape)
                for ours, (theirs, shape) in needed.items()
            }
    except (OSError, SafetensorError) as error:
        raise RecordError(f"A model folder with a whole {path.name} is needed, got {path} ({error}).") from error


def _compare(path: Path, present: set[str], needed: set[str], ignore: Sequence[str]) -> None:
    missing = sorted(needed - present)
    extra = sorted(present - needed)
    unexpected = [key for key in extra if not any(fnmatch.fnmatchcase(key, pattern) for pattern in ignore)]
    problems = ((missing, "misses"), (unexpected, "holds the unexpected"))
    if found := [f"{what} {_few(keys)}" for keys, what in problems if keys]:
        raise RecordError(f"{path} must hold the weights of this architecture, but it {' and '.join(found)}.")


def _few(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{', '.join(keys[:5])}{rest}"


def _tensor(path: Path, file: Any, key: str, shape: torch.Size) -> Tensor:
    tensor: Tensor = file.get_tensor(key)
    if tensor.shape != shape:
        raise RecordError(f"{key} in {path} must have config.json's shape {tuple(shape)}, got {tuple(tensor.shape)}.")
    # Always a copy: the file's memory is mapped, and training would write into it.
    return tensor.to(torch.float32, copy=True)
