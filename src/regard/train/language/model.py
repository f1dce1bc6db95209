"""The language model that a recipe names: a decoder, or a recurrent network of its parameter count."""

from pathlib import Path

import torch

from regard._errors import ArgumentError
from regard.models import (
    Decoder,
    DecoderConfig,
    Recurrent,
    RecurrentConfig,
    RecurrentForCausalLM,
    count_parameters,
    load_decoder,
    save_decoder,
    save_recurrent,
    width_for,
)
from regard.models.own_checkpoint import recurrent_in
from regard.train.language.config import LanguageModel
from regard.train.language.given import given_decoder, given_name

__all__ = ["LanguageNetwork", "model_name", "new_language_model", "open_language_model", "save_language_model"]

LanguageNetwork = Decoder | RecurrentForCausalLM

_FEED_FORWARD = 4  # times the width; two thirds of that where a third matrix gates


def model_name(settings: LanguageModel) -> str:
    """Return what a person calls the model."""
    if settings.pretrained != "none":
        return f"{given_name(settings.pretrained)}, fine-tuned"
    if settings.architecture == "transformer":
        return f"decoder of {_layers(settings.num_layers)} and width {settings.embed_dim}"
    return f"{settings.architecture.upper()} of {_layers(settings.recurrent_layers)}"


def new_language_model(
    settings: LanguageModel, *, vocab_size: int, max_len: int, pad_id: int, tied: bool = False
) -> LanguageNetwork:
    """Return the model before its first step.

    Args:
        settings: the recipe's.
        vocab_size: token ids.
        max_len: longest sequence of a decoder, in tokens.
        pad_id: id of the padding token.
        tied: whether a decoder's output layer is its table of tokens, where the settings do not say.

    Raises:
        ArgumentError: no width of a recurrent network gives the decoder's parameter count, or a decoder that is given
            does not fit the tokens or the window.
        RecordError: the decoder that is given lacks something.
        UnsupportedError: it is of another architecture.
    """
    if settings.pretrained != "none":
        return _given(settings, vocab_size=vocab_size, max_len=max_len)
    gated = settings.activation == "swiglu"
    width = settings.embed_dim
    config = DecoderConfig(
        vocab_size=vocab_size,
        embed_dim=width,
        num_heads=settings.num_heads,
        num_kv_heads=settings.num_kv_heads,
        num_layers=settings.num_layers,
        feed_forward_dim=_FEED_FORWARD * width * 2 // 3 if gated else _FEED_FORWARD * width,
        max_len=max_len,
        positions=settings.positions,
        norm="rms",
        activation=settings.activation,
        attention_bias=False,
        feed_forward_bias=False,
        tied_embeddings=tied if settings.tied_embeddings is None else settings.tied_embeddings,
        dropout_p=settings.dropout_p,
        pad_id=pad_id,
    )
    return Decoder(config) if settings.architecture == "transformer" else _recurrent(settings, config)


def open_language_model(folder: Path, *, dropout_p: float | None = None) -> LanguageNetwork:
    """Load the language model of a model folder.

    Args:
        folder: what a run of a language model wrote.
        dropout_p: of a decoder, instead of what stands there.

    Raises:
        RecordError: the folder does not hold a whole language model.
    """
    recurrent = recurrent_in(folder, RecurrentForCausalLM)
    return load_decoder(folder, dropout_p=dropout_p) if recurrent is None else recurrent


def save_language_model(model: LanguageNetwork, folder: Path) -> None:
    """Write the model so that ``open_language_model`` loads it.

    Raises:
        RecordError: the files cannot be written.
    """
    if isinstance(model, Decoder):
        save_decoder(model, folder)
    else:
        save_recurrent(model, folder)


def _given(settings: LanguageModel, *, vocab_size: int, max_len: int) -> Decoder:
    assert settings.pretrained != "none", "a model from scratch is not given"
    model = given_decoder(settings.pretrained, dropout_p=settings.dropout_p)
    if vocab_size > model.config.vocab_size:
        raise ArgumentError(
            f"The tokenizer of {settings.pretrained} must fit its decoder, got {vocab_size:,} kinds of tokens for "
            f"{model.config.vocab_size:,} words; take both from one place."
        )
    if max_len > model.config.max_len:
        raise ArgumentError(
            f"data.window must be at most {model.config.max_len}, the longest sequence of {settings.pretrained}, got "
            f"{max_len}; lower it."
        )
    return model


def _layers(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"


def _recurrent(settings: LanguageModel, config: DecoderConfig) -> RecurrentForCausalLM:
    def make(width: int) -> RecurrentForCausalLM:
        sizes = RecurrentConfig(
            cell=settings.architecture,
            vocab_size=config.vocab_size,
            embed_dim=config.embed_dim,
            hidden_dim=width,
            num_layers=settings.recurrent_layers,
            dropout_p=settings.dropout_p,
            pad_id=config.pad_id or 0,
        )
        return RecurrentForCausalLM(Recurrent(sizes))

    if settings.hidden_dim is not None:
        return make(settings.hidden_dim)
    with torch.device("meta"):
        wanted = count_parameters(Decoder(config))
    return make(width_for(wanted, make))
