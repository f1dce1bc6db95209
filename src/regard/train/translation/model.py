"""The network of a translator: the Transformer of the recipe, or a recurrent network of its parameter count."""

from pathlib import Path
from typing import Any

import torch

from regard.models import (
    RecurrentTranslator,
    RecurrentTranslatorConfig,
    Transformer,
    TransformerConfig,
    count_parameters,
    load_transformer,
    save_recurrent,
    save_transformer,
    width_for,
)
from regard.models.own_checkpoint import recurrent_in
from regard.train.translation.config import TranslatorConfig, TranslatorModel

__all__ = ["TranslationNetwork", "new_translator", "open_translator", "save_translator", "translator_name"]

TranslationNetwork = Transformer | RecurrentTranslator


def translator_name(settings: TranslatorModel) -> str:
    """Return what tables call the model."""
    if settings.architecture == "transformer":
        layers = f"{settings.num_encoder_layers} + {settings.num_decoder_layers} layers"
        return f"Transformer from scratch ({layers}, width {settings.embed_dim})"
    number = settings.recurrent_layers
    attends = "with additive attention" if settings.attention == "additive" else "without attention"
    return f"{settings.architecture.upper()} {attends} from scratch ({number} + {number} layers)"


def new_translator(
    config: TranslatorConfig, *, vocab_size: int, pad_id: int, bos_id: int, eos_id: int
) -> TranslationNetwork:
    """Return the model before its first step.

    Args:
        config: the recipe.
        vocab_size: token ids of both sides.
        pad_id: id of the padding token.
        bos_id: id of the token that begins a text.
        eos_id: id of the token that ends it.

    Raises:
        ArgumentError: no width of a recurrent network gives it the parameter count of the Transformer.
    """
    settings = config.model
    others = {"architecture", "recurrent_layers", "hidden_dim", "attention", "tokens", "vocab_size"}
    attending = settings.model_dump(exclude=others)
    ids: dict[str, Any] = {"vocab_size": vocab_size, "pad_id": pad_id, "bos_id": bos_id, "eos_id": eos_id}
    # A model writes behind the token that begins: one more than the texts that it learnt from.
    max_len = max(2 * config.data.max_len + 64, config.data.longest_source)
    transformer = TransformerConfig(**attending, **ids, max_len=max_len)
    if settings.architecture == "transformer":
        return Transformer(transformer)

    def make(width: int) -> RecurrentTranslator:
        sizes = RecurrentTranslatorConfig(
            **ids,
            cell=settings.architecture,
            embed_dim=settings.embed_dim,
            hidden_dim=width,
            num_layers=settings.recurrent_layers,
            attention=settings.attention,
            tied_embeddings=settings.tied_embeddings,
            dropout_p=settings.dropout_p,
        )
        return RecurrentTranslator(sizes)

    if settings.hidden_dim is not None:
        return make(settings.hidden_dim)
    with torch.device("meta"):
        wanted = count_parameters(Transformer(transformer))
    return make(width_for(wanted, make))


def open_translator(folder: Path) -> TranslationNetwork:
    """Load the translator of a model folder, in training mode as every fresh module.

    Raises:
        RecordError: the folder does not hold a whole translator.
    """
    recurrent = recurrent_in(folder, RecurrentTranslator)
    return load_transformer(folder) if recurrent is None else recurrent


def save_translator(model: TranslationNetwork, folder: Path) -> None:
    """Write the model so that ``open_translator`` loads it.

    Raises:
        RecordError: the files cannot be written.
    """
    if isinstance(model, Transformer):
        save_transformer(model, folder)
    else:
        save_recurrent(model, folder)
