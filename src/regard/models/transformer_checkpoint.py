"""Folders of encoder–decoder Transformers: ``config.json`` and ``model.safetensors`` under our own names.

Nothing else reads them: no architecture of ``transformers`` is the paper's with all of its variants.
"""

from dataclasses import replace
from pathlib import Path

import torch

from regard._errors import ArgumentError, RecordError, UnsupportedError
from regard.models.transformer import Transformer
from regard.models.transformer_config import TransformerConfig
from regard.models.weight_files import read_config, read_weights, write_weights

__all__ = ["load_transformer", "save_transformer"]

_MODEL_TYPE = "regard-transformer"


def save_transformer(model: Transformer, folder: Path | str) -> None:
    """Write a model so that ``load_transformer`` loads it; each file is written whole, tied matrices once.

    Raises:
        RecordError: the files cannot be written.
    """
    tensors = model.state_dict(keep_vars=True)
    weights = {names[0]: tensors[names[0]] for names in _shared(model)}
    write_weights(Path(folder), weights, {"model_type": _MODEL_TYPE, **model.config.to_dict()})


def load_transformer(folder: Path | str, *, dropout_p: float | None = None) -> Transformer:
    """Load what ``save_transformer`` wrote, in float32.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``.
        dropout_p: instead of the config's; None keeps that.

    Returns:
        The model, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a weight is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds another architecture.
    """
    folder = Path(folder)
    config = _config(folder)
    if dropout_p is not None:
        config = replace(config, dropout_p=dropout_p)
    with torch.device("meta"):
        model = Transformer(config)
    tensors, shared = model.state_dict(), _shared(model)
    read = read_weights(folder / "model.safetensors", {names[0]: tensors[names[0]].shape for names in shared})
    model.load_state_dict({name: read[names[0]] for names in shared for name in names}, assign=True)
    return model


def _shared(model: Transformer) -> list[list[str]]:
    """Return the names of each weight; a tied matrix has several."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return list(names.values())


def _config(folder: Path) -> TransformerConfig:
    values = read_config(folder)
    kind = values.pop("model_type", None)
    if kind != _MODEL_TYPE:
        raise UnsupportedError(f"{folder / 'config.json'} must have model_type {_MODEL_TYPE!r}, got {kind!r}.")
    try:
        return TransformerConfig.from_dict(values)
    except (ArgumentError, TypeError) as error:
        raise RecordError(f"{folder / 'config.json'} does not describe a Transformer: {error}") from error
