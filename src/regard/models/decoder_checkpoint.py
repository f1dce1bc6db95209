"""Decoders in folders: Hugging Face's GPT-2 and Llama shapes are read, and written so that ``transformers`` reads them.

A decoder of another shape, such as one with rotary positions and layer norm, is written under our own names.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from regard._errors import ArgumentError, RecordError, UnsupportedError
from regard.models._hf import gpt2, llama
from regard.models.decoder import Decoder
from regard.models.decoder_config import DecoderConfig
from regard.models.weight_files import read_config, read_weights, write_weights

__all__ = ["load_decoder", "save_decoder"]

_OWN = "regard-decoder"
_SHAPES: tuple[ModuleType, ...] = (gpt2, llama)


def load_decoder(
    folder: Path | str, *, dropout_p: float | None = None, attention_dropout_p: float | None = None
) -> Decoder:
    """Load a decoder in float32, whatever the file's precision.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``: of a ``GPT2LMHeadModel`` or a ``LlamaForCausalLM`` of
            ``transformers``, or what ``save_decoder`` wrote.
        dropout_p: instead of the config's; None keeps that.
        attention_dropout_p: instead of the config's; None keeps that.

    Returns:
        The decoder, in training mode as every fresh module.

    Raises:
        RecordError: a file is absent or damaged, or a key is missing, unexpected or of another shape; it is named.
        UnsupportedError: another architecture, or one with parts that ``Decoder`` does not have; they are named.
    """
    folder = Path(folder)
    shape, config = _config(folder)
    config = replace(
        config,
        dropout_p=config.dropout_p if dropout_p is None else dropout_p,
        attention_dropout_p=config.attention_dropout_p if attention_dropout_p is None else attention_dropout_p,
    )
    with torch.device("meta"):
        model = Decoder(config)
    model.load_state_dict(_weights(folder / "model.safetensors", model, shape), assign=True)
    return model


def save_decoder(model: Decoder, folder: Path | str) -> str:
    """Write a decoder so that ``load_decoder`` loads it; each file is written whole.

    Returns:
        The ``model_type`` that was written: ``"gpt2"`` or ``"llama"`` where the decoder has that shape, which
        ``transformers`` loads, else ``"regard-decoder"``, which nothing but regard does.

    Raises:
        RecordError: the files cannot be written.
    """
    config = model.config
    shape = next((one for one in _SHAPES if one.fits(config)), None)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    if shape is None:
        write_weights(Path(folder), weights, {"model_type": _OWN, **config.to_dict()})
        return _OWN
    write_weights(Path(folder), shape.to_hf(weights), shape.config_to_hf(config))
    return str(shape.MODEL_TYPE)


def _config(folder: Path) -> tuple[ModuleType | None, DecoderConfig]:
    """Return the architecture, None for our own names, and the config."""
    path, values = folder / "config.json", read_config(folder)
    kind = values.get("model_type")
    for shape in _SHAPES:
        if kind == shape.MODEL_TYPE:
            return shape, shape.config_from_hf(values, source=str(path))
    if kind != _OWN:
        known = ", ".join(repr(shape.MODEL_TYPE) for shape in _SHAPES)
        raise UnsupportedError(f"{path} must have model_type {known} or {_OWN!r}, got {kind!r}.")
    try:
        return None, DecoderConfig.from_dict({name: value for name, value in values.items() if name != "model_type"})
    except (ArgumentError, TypeError) as error:
        raise RecordError(f"{path} does not describe a decoder: {error}") from error


def _weights(path: Path, model: Decoder, shape: ModuleType | None) -> dict[str, Tensor]:
    """Return our weights out of a file."""
    ours = model.state_dict()
    if shape is None:
        return read_weights(path, {name: tensor.shape for name, tensor in ours.items()})
    needed = {shape.canonical_name(name): tensor.shape for name, tensor in shape.to_hf(ours).items()}
    # A tied output layer is the table of words, of which a file may hold a copy.
    ignored = (*shape.IGNORED, "lm_head.weight") if model.config.tied_embeddings else shape.IGNORED
    theirs = read_weights(path, needed, key=shape.canonical_name, ignore=ignored)
    found: dict[str, Tensor] = shape.from_hf(theirs, ours)
    return found
