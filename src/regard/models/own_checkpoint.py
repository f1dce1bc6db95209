"""Our own architectures in folders: ``config.json`` and ``model.safetensors`` under our own names.

These are recurrent networks, forecasters and models of frames. No other software has them in this form, so there are
no names to follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from regard._errors import ArgumentError, RecordError, UnsupportedError
from regard.models.forecaster import Forecaster
from regard.models.forecaster_config import ForecasterConfig
from regard.models.frame_config import FrameConfig
from regard.models.frame_model import FrameModel
from regard.models.recurrent import (
    Recurrent,
    RecurrentForCausalLM,
    RecurrentForSequenceClassification,
    RecurrentForTokenClassification,
)
from regard.models.recurrent_config import RecurrentConfig, RecurrentTranslatorConfig
from regard.models.recurrent_translator import RecurrentTranslator
from regard.models.weight_files import read_config, read_weights, write_weights

__all__ = [
    "load_forecaster",
    "load_frame_model",
    "load_recurrent",
    "recurrent_in",
    "save_forecaster",
    "save_frame_model",
    "save_recurrent",
]

RecurrentModel = (
    Recurrent
    | RecurrentForSequenceClassification
    | RecurrentForTokenClassification
    | RecurrentForCausalLM
    | RecurrentTranslator
)

_Recurrent = TypeVar("_Recurrent", bound=RecurrentModel)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How a class is described in ``config.json``: its config, its other arguments, and both back to a model."""

    config: type[Any]
    describe: Callable[[Any], tuple[Any, dict[str, Any]]]
    make: Callable[[Any, dict[str, Any]], nn.Module]


def _classifier_head(model: RecurrentForSequenceClassification) -> dict[str, Any]:
    return {"num_labels": model.num_labels, "pooling": model.pooling, "dropout_p": model.dropout.p}


_RECURRENT: dict[type[nn.Module], _Kind] = {
    Recurrent: _Kind(
        config=RecurrentConfig,
        describe=lambda model: (model.config, {}),
        make=lambda config, _: Recurrent(config),
    ),
    RecurrentForSequenceClassification: _Kind(
        config=RecurrentConfig,
        describe=lambda model: (model.encoder.config, _classifier_head(model)),
        make=lambda config, head: RecurrentForSequenceClassification(Recurrent(config), **head),
    ),
    RecurrentForTokenClassification: _Kind(
        config=RecurrentConfig,
        describe=lambda model: (
            model.encoder.config,
            {"num_labels": model.num_labels, "dropout_p": model.dropout.p},
        ),
        make=lambda config, head: RecurrentForTokenClassification(Recurrent(config), **head),
    ),
    RecurrentForCausalLM: _Kind(
        config=RecurrentConfig,
        describe=lambda model: (model.network.config, {}),
        make=lambda config, _: RecurrentForCausalLM(Recurrent(config)),
    ),
    RecurrentTranslator: _Kind(
        config=RecurrentTranslatorConfig,
        describe=lambda model: (model.config, {}),
        make=lambda config, _: RecurrentTranslator(config),
    ),
}
_FORECASTER: dict[type[nn.Module], _Kind] = {
    Forecaster: _Kind(
        config=ForecasterConfig,
        describe=lambda model: (model.config, {}),
        make=lambda config, _: Forecaster(config),
    ),
}
_FRAMES: dict[type[nn.Module], _Kind] = {
    FrameModel: _Kind(
        config=FrameConfig,
        describe=lambda model: (model.config, {}),
        make=lambda config, _: FrameModel(config),
    ),
}


def save_recurrent(model: RecurrentModel, folder: Path | str) -> None:
    """Write a recurrent network, with its head, so that ``load_recurrent`` loads it; each file is written whole.

    Raises:
        RecordError: the files cannot be written.
    """
    _save(model, Path(folder), _RECURRENT)


def load_recurrent(folder: Path | str) -> RecurrentModel:
    """Load what ``save_recurrent`` wrote, of the class that was written, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a weight is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds something else.
    """
    return _load(Path(folder), _RECURRENT)  # type: ignore[return-value]


def recurrent_in(folder: Path, kind: type[_Recurrent]) -> _Recurrent | None:
    """Load the recurrent network of a folder, or return None where it holds another architecture, for who takes either.

    Args:
        folder: of a model.
        kind: the class that the network must have.

    Raises:
        RecordError: a network of another class, or as for ``load_recurrent``.
    """
    if str(read_config(folder).get("model_type")) not in {_model_type(one) for one in _RECURRENT}:
        return None
    model = load_recurrent(folder)
    if not isinstance(model, kind):
        raise RecordError(f"{folder} must hold a {kind.__name__}, got a {type(model).__name__}.")
    return model


def save_forecaster(model: Forecaster, folder: Path | str) -> None:
    """Write a forecaster so that ``load_forecaster`` loads it; each file is written whole.

    Raises:
        RecordError: the files cannot be written.
    """
    _save(model, Path(folder), _FORECASTER)


def load_forecaster(folder: Path | str) -> Forecaster:
    """Load what ``save_forecaster`` wrote, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a weight is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds something else.
    """
    return _load(Path(folder), _FORECASTER)  # type: ignore[return-value]


def save_frame_model(model: FrameModel, folder: Path | str) -> None:
    """Write a model of frames so that ``load_frame_model`` loads it; each file is written whole.

    Raises:
        RecordError: the files cannot be written.
    """
    _save(model, Path(folder), _FRAMES)


def load_frame_model(folder: Path | str) -> FrameModel:
    """Load what ``save_frame_model`` wrote, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a weight is missing, unexpected or of another shape; it is named.
        UnsupportedError: the folder holds something else.
    """
    return _load(Path(folder), _FRAMES)  # type: ignore[return-value]


def _save(model: nn.Module, folder: Path, kinds: Mapping[type[nn.Module], _Kind]) -> None:
    config, head = kinds[type(model)].describe(model)
    values = {"model_type": _model_type(type(model)), "config": config.to_dict(), "head": head}
    weights, owners = model.state_dict(), _owner(model)
    write_weights(folder, {name: weights[name] for name in dict.fromkeys(owners.values())}, values)


def _load(folder: Path, kinds: Mapping[type[nn.Module], _Kind]) -> nn.Module:
    path, values = folder / "config.json", read_config(folder)
    known = {_model_type(kind): made for kind, made in kinds.items()}
    kind = known.get(str(values.get("model_type")))
    if kind is None:
        raise UnsupportedError(
            f"{path} must have a model_type of {', '.join(known)}, got {values.get('model_type')!r}."
        )
    try:
        with torch.device("meta"):
            model = kind.make(kind.config.from_dict(values["config"]), dict(values["head"]))
    except (ArgumentError, KeyError, TypeError) as error:
        raise RecordError(f"{path} does not describe a {values['model_type']}: {error}") from error
    owners = _owner(model)
    needed = {name: tensor.shape for name, tensor in model.state_dict().items() if owners[name] == name}
    weights = read_weights(folder / "model.safetensors", needed)
    model.load_state_dict({name: weights[owner] for name, owner in owners.items()}, assign=True)
    return model


def _owner(model: nn.Module) -> dict[str, str]:
    """Return name -> the first name of the same weight: tied ones have several, of which a file holds one."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(weight), name) for name, weight in model.state_dict(keep_vars=True).items()}


def _model_type(kind: type[nn.Module]) -> str:
    return f"regard-{kind.__name__}"
