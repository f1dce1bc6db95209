"""A recipe at work: its model, before its data was read, and its step of training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.cost import Arguments, Workload
from regard.models import BertForMaskedLM, Decoder
from regard.train import ClassifierConfig, Hardware, JobConfig, choose_hardware, configure
from regard.train.classification.model import new_classifier
from regard.train.forecasting.config import ForecastingConfig
from regard.train.forecasting.job import new_forecaster
from regard.train.frames.config import FramesConfig
from regard.train.frames.model import new_frame_model
from regard.train.language.config import LanguageConfig
from regard.train.language.model import new_language_model
from regard.train.masked.config import MaskedConfig
from regard.train.masked.job import new_masked_model
from regard.train.tagging.config import TaggerConfig
from regard.train.tagging.model import new_tagger
from regard.train.translation.config import TranslatorConfig
from regard.train.translation.model import new_translator

__all__ = ["workload_of_recipe"]

# What the data decides and was not read yet; the numbers hardly matter.
_LABELS, _TAGS, _CHARACTERS, _WORDS, _CHANNELS, _FRAMES = 8, 20, 100, 2000, 7, 256


def workload_of_recipe(recipe: str, settings: Sequence[str]) -> Workload:
    """Return the step that ``recipe`` trains with, all its sequences as long as they may be.

    What only the data can say is assumed, and said: 8 labels, 20 tags, 100 kinds of characters, 2,000 words, 7
    channels, sequences of 256 frames.

    Raises:
        ArgumentError: as for ``configure``; a recipe that reads a file needs its path.
        MissingDependencyError: its model comes with a package that is not installed.
    """
    config = configure(recipe, settings)
    hardware = choose_hardware(config.device, config.precision)
    shape = _SHAPES[type(config)](config, hardware)
    precision = "bfloat16" if hardware.precision == torch.bfloat16 else "float32"
    return Workload(**{"batch": config.optim.batch_size, **shape}, trains=True, precision=precision, name=recipe)  # type: ignore[arg-type]


def _classifier(config: ClassifierConfig, hardware: Hardware) -> dict[str, Any]:
    wanted = config.model.attention_dtype
    attention = hardware.attention_dtype if wanted == "auto" else torch.float32 if wanted == "float32" else None
    model = new_classifier(
        config.model,
        _LABELS,
        vocab_size=config.model.vocab_size or 1,
        max_len=config.data.max_len,
        pad_id=0,
        attention_dtype=attention,
    )
    vocabulary = next(one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding))

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.cross_entropy(result.float(), torch.zeros(len(result), dtype=torch.int64))

    said = _say(f"{_LABELS} labels")
    return {"model": model, "inputs": _tokens(vocabulary), "length": config.data.max_len, "loss": loss} | said


def _tagger(config: TaggerConfig, hardware: Hardware) -> dict[str, Any]:
    wanted, length = config.model.attention_dtype, config.data.max_len
    attention = hardware.attention_dtype if wanted == "auto" else torch.float32 if wanted == "float32" else None
    sizes = {"vocab_size": config.model.vocab_size or 1, "max_len": length, "pad_id": 0}
    model = new_tagger(config.model, _TAGS, attention_dtype=attention, **sizes)
    vocabulary = next(one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding))

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.cross_entropy(result.flatten(0, 1).float(), arguments.positional[0].flatten() % _TAGS)

    return {"model": model, "inputs": _tokens(vocabulary), "length": length, "loss": loss} | _say(f"{_TAGS} tags")


def _language(config: LanguageConfig, hardware: Hardware) -> dict[str, Any]:
    window, tokens = config.data.window, config.data.tokens
    vocabulary = _CHARACTERS if tokens in ("characters", "own") else config.data.most_tokens
    sizes = {"vocab_size": vocabulary, "max_len": window, "pad_id": 0}
    # A decoder that is given brings its own vocabulary; any smaller number fits it.
    model = new_language_model(config.model, tied=tokens != "characters", **sizes)
    if isinstance(model, Decoder):
        vocabulary = model.config.vocab_size

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.cross_entropy(result.flatten(0, 1).float(), arguments.positional[0].flatten())

    kinds = "kinds of characters" if tokens == "characters" else "subwords" if tokens == "own" else tokens
    said = _say(f"{vocabulary:,} {kinds}")
    return {"model": model, "inputs": _tokens(vocabulary), "length": window, "loss": loss} | said


def _masked(config: MaskedConfig, hardware: Hardware) -> dict[str, Any]:
    vocabulary = config.data.vocab_size
    model = new_masked_model(config, vocab_size=vocabulary, pad_id=0, attention_dtype=hardware.attention_dtype)

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.cross_entropy(result.float(), torch.zeros(len(result), dtype=torch.int64))

    said = _say(f"{vocabulary:,} word pieces")
    guessing = _Guessing(model, config.data.mask_share)
    return {"model": guessing, "inputs": _tokens(vocabulary), "length": config.data.window, "loss": loss} | said


class _Guessing(nn.Module):
    """Guesses as many tokens as on average; which ones they are makes no difference to the cost."""

    def __init__(self, model: BertForMaskedLM, share: float) -> None:
        super().__init__()
        self.model, self.share = model, share

    def forward(self, input_ids: Tensor) -> Tensor:
        states = self.model.bert(input_ids).flatten(0, 1)
        return self.model.logits(states[: max(1, round(len(states) * self.share))])


def _translator(config: TranslatorConfig, hardware: Hardware) -> dict[str, Any]:
    vocabulary = config.model.vocab_size if config.model.tokens == "subwords" else _WORDS
    length = config.data.max_len
    model = new_translator(config, vocab_size=vocabulary, pad_id=0, bos_id=1, eos_id=2)

    def inputs(batch: int, length: int) -> Arguments:
        source, target = torch.randint(3, vocabulary, (2, batch, length)).unbind(0)
        return Arguments(positional=[source, target])

    def loss(result: Any, arguments: Arguments) -> Tensor:
        labels = arguments.positional[1].flatten()
        return F.cross_entropy(result.flatten(0, -2).float(), labels, label_smoothing=config.optim.label_smoothing)

    batch = max(1, config.optim.tokens_per_batch // length)
    said = _say(f"{vocabulary:,} {config.model.tokens}")
    return {"model": model, "inputs": inputs, "length": length, "batch": batch, "loss": loss} | said


def _forecaster(config: ForecastingConfig, hardware: Hardware) -> dict[str, Any]:
    read, horizon = config.model.input_len, config.model.horizon

    def inputs(batch: int, length: int) -> Arguments:
        if length != read:
            raise ArgumentError(
                f"A forecaster reads as many rows as it was made for, {read}, got {length}; "
                f"set model.input_len={length} instead of a length."
            )
        return Arguments(positional=[torch.randn(batch, read, _CHANNELS)])

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.mse_loss(result.float(), torch.zeros(len(result), horizon, _CHANNELS))

    model, said = new_forecaster(config.model, _CHANNELS), _say(f"{_CHANNELS} channels")
    return {"model": model, "inputs": inputs, "length": read, "fixed_length": True, "loss": loss} | said


def _frames(config: FramesConfig, hardware: Hardware) -> dict[str, Any]:
    classes = config.model.target == "class"
    model = new_frame_model(config.model, num_channels=_CHANNELS, num_outputs=_LABELS if classes else 1)
    patch = config.model.patch_len

    def inputs(batch: int, length: int) -> Arguments:
        return Arguments(positional=[torch.randn(batch, length * patch, _CHANNELS)])

    def loss(result: Any, arguments: Arguments) -> Tensor:
        if classes:
            return F.cross_entropy(result.float(), torch.zeros(len(result), dtype=torch.int64))
        return F.mse_loss(result.float(), torch.zeros_like(result, dtype=torch.float32))

    said = _say(f"{_CHANNELS} channels, {_FRAMES} frames a sequence{f' and {_LABELS} labels' if classes else ''}")
    return {"model": model, "inputs": inputs, "length": -(-_FRAMES // patch), "loss": loss} | said


def _say(what: str) -> dict[str, str]:
    return {"assumed": f"The data is not read; it is taken to have {what}."}


def _tokens(vocabulary: int) -> Callable[[int, int], Arguments]:
    return lambda batch, length: Arguments(positional=[torch.randint(vocabulary, (batch, length))])


_SHAPES: dict[type[JobConfig], Callable[[Any, Hardware], dict[str, Any]]] = {
    ClassifierConfig: _classifier,
    ForecastingConfig: _forecaster,
    FramesConfig: _frames,
    LanguageConfig: _language,
    MaskedConfig: _masked,
    TaggerConfig: _tagger,
    TranslatorConfig: _translator,
}
