"""The model of frames that a recipe names."""

from dataclasses import replace

import torch

from regard.models import FrameConfig, FrameModel, count_parameters, width_for
from regard.train.frames.config import FramesModel

__all__ = ["model_name", "new_frame_model"]

_NAMES = {"transformer": "Transformer", "gru": "GRU", "lstm": "LSTM"}


def model_name(settings: FramesModel) -> str:
    """Return what a person reads, such as ``Transformer of 2 layers and width 64``."""
    layers = "1 layer" if settings.num_layers == 1 else f"{settings.num_layers} layers"
    width = f" and width {settings.embed_dim}" if settings.architecture == "transformer" else ""
    return f"{_NAMES[settings.architecture]} of {layers}{width}"


def new_frame_model(settings: FramesModel, *, num_channels: int, num_outputs: int) -> FrameModel:
    """Return the model before its first step.

    Args:
        settings: its sizes.
        num_channels: values of a frame.
        num_outputs: classes; 1 for a number.

    Raises:
        ArgumentError: no width of a recurrent network gives the Transformer's parameter count.
    """
    sizes = settings.model_dump(exclude={"target"})
    config = FrameConfig(**sizes, num_channels=num_channels, num_outputs=num_outputs)
    if config.architecture == "transformer" or config.hidden_dim is not None:
        return FrameModel(config)
    with torch.device("meta"):
        wanted = count_parameters(FrameModel(replace(config, architecture="transformer")))
    width = width_for(wanted, lambda width: FrameModel(replace(config, hidden_dim=width)))
    return FrameModel(replace(config, hidden_dim=width))
