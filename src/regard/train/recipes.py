"""Recipes: functions that return a whole config, and ``--set path=value`` that changes one."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from regard._errors import ArgumentError
from regard.train.classification.config import ClassifierConfig
from regard.train.config import JobConfig, WatchConfig
from regard.train.forecasting.config import ForecastingConfig
from regard.train.frames.config import FramesConfig
from regard.train.language.config import LanguageConfig
from regard.train.masked.config import MaskedConfig
from regard.train.tagging.config import TaggerConfig
from regard.train.translation.config import TranslatorConfig

__all__ = [
    "RECIPES",
    "Recipe",
    "configure",
    "demo",
    "demo_fast",
    "forecaster",
    "frames",
    "from_scratch",
    "language_model",
    "masked_words",
    "text_classifier",
    "token_tagger",
    "translator",
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A job with its settings.

    Attributes:
        config: the job's config class.
        values: returns what it is made of; the docstring says what the recipe does.
        needs: a setting without which there is nothing to train on, or None.
    """

    config: type[JobConfig]
    values: Callable[[], dict[str, Any]]
    needs: str | None = None

    @property
    def says(self) -> str:
        """One line on what the recipe does."""
        return (self.values.__doc__ or "").splitlines()[0]


def text_classifier() -> dict[str, Any]:
    """Fine-tune a pretrained BERT to classify the documents of a file: set data.path, data.text and data.label."""
    return {"recipe": "text-classifier", "data": {"source": "table"}}


def token_tagger() -> dict[str, Any]:
    """Fine-tune a pretrained BERT to tag each word of a sentence, or to restore case and punctuation: set data.path."""
    return {"recipe": "token-tagger", "data": {}, "optim": {"epochs": 3, "lr": 2e-4}}


def demo() -> dict[str, Any]:
    """Fine-tune MiniLM on Reuters R8: 5,485 training and 2,189 test documents, 8 classes."""
    return {"recipe": "demo", "data": {"source": "reuters-r8"}}


def demo_fast() -> dict[str, Any]:
    """The demo on a small setting of the same data: 1,000 training and 500 test documents, 96 tokens, one epoch."""
    return {
        "recipe": "demo-fast",
        "data": {"source": "reuters-r8", "max_train": 1000, "max_test": 500, "max_len": 96},
        "optim": {"epochs": 1, "lr": 2e-4},
        "watch": {"interval": 5},
    }


def from_scratch() -> dict[str, Any]:
    """Train a small BERT and its vocabulary from scratch, on Reuters R8 or, with data.source=table, your own."""
    return {
        "recipe": "from-scratch",
        "data": {"source": "reuters-r8"},
        "model": {"pretrained": "none"},
        "optim": {"epochs": 3, "lr": 5e-4, "head_lr": 5e-4},
    }


def masked_words() -> dict[str, Any]:
    """Pretrain a BERT from scratch on the masked words of one text: set data.path; fine-tuning goes on from it."""
    return {"recipe": "masked-words", "data": {}}


def language_model() -> dict[str, Any]:
    """Train a decoder, from scratch or a given one, on a text of characters, subwords or words: set data.path."""
    return {"recipe": "language-model", "data": {}}


def translator() -> dict[str, Any]:
    """Train an encoder–decoder on pairs of texts: set data.path, data.source_column and data.target_column."""
    # Sentences are short: looking at all statistics of each step would take a sixth of its time.
    every = [*WatchConfig().every_step, *WatchConfig().sometimes]
    return {"recipe": "translator", "data": {"source": "table"}, "watch": {"every_step": [], "sometimes": every}}


def forecaster() -> dict[str, Any]:
    """Forecast the channels of a numeric series with a Transformer over patches: set data.path and model.horizon."""
    optim = {"epochs": 5, "batch_size": 128, "lr": 2e-3, "schedule": "cosine"}
    return {"recipe": "forecaster", "data": {}, "optim": optim}


def frames() -> dict[str, Any]:
    """Give each sequence of numeric frames, audio among them, a class or a number: set data.path and model.target."""
    optim = {"epochs": 40, "batch_size": 16, "lr": 1e-3, "schedule": "cosine"}
    return {"recipe": "frames", "data": {}, "optim": optim}


RECIPES: dict[str, Recipe] = {
    "demo": Recipe(config=ClassifierConfig, values=demo),
    "demo-fast": Recipe(config=ClassifierConfig, values=demo_fast),
    "forecaster": Recipe(config=ForecastingConfig, values=forecaster, needs="data.path=FILE"),
    "frames": Recipe(config=FramesConfig, values=frames, needs="data.path=FILE"),
    "from-scratch": Recipe(config=ClassifierConfig, values=from_scratch),
    "language-model": Recipe(config=LanguageConfig, values=language_model, needs="data.path=FILE"),
    "masked-words": Recipe(config=MaskedConfig, values=masked_words, needs="data.path=FILE"),
    "text-classifier": Recipe(config=ClassifierConfig, values=text_classifier, needs="data.path=FILE"),
    "token-tagger": Recipe(config=TaggerConfig, values=token_tagger, needs="data.path=FILE"),
    "translator": Recipe(config=TranslatorConfig, values=translator, needs="data.path=FILE"),
}


def configure(recipe: str, settings: Iterable[str] = ()) -> JobConfig:
    """Return the config of ``recipe`` with ``settings`` applied.

    Args:
        recipe: a name out of ``RECIPES``.
        settings: ``"data.path=mine.csv"``; values are read as JSON where they are JSON, else as text.

    Raises:
        ArgumentError: an unknown recipe or setting, or a value that the config refuses.
    """
    if recipe not in RECIPES:
        raise ArgumentError(f"A recipe must be one of {', '.join(RECIPES)}; got {recipe!r}.")
    config = RECIPES[recipe].config
    values = RECIPES[recipe].values()
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ArgumentError(f"A setting must read path=value, such as optim.lr=1e-4; got {setting!r}.")
        _assign(values, path.strip(), text.strip(), config)
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise ArgumentError(_sentence(error)) from error


def _assign(values: dict[str, Any], path: str, text: str, config: type[JobConfig]) -> None:
    *parents, last = path.split(".")
    fields: Mapping[str, Any] = config.model_fields
    for name in parents:
        _known(name, fields, path)
        fields = getattr(fields[name].annotation, "model_fields", {})
        values = values.setdefault(name, {})
    _known(last, fields, path)
    try:
        values[last] = json.loads(text)
    except json.JSONDecodeError:
        values[last] = text


def _known(name: str, fields: Mapping[str, Any], path: str) -> None:
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(fields)}." if fields else "."
        raise ArgumentError(f"A setting must be a field of the recipe, got {path!r}{hint}")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function", "literal")))
    message = first["msg"].removeprefix("Value error, ")
    got = f", got {first['input']!r}" if place and not isinstance(first["input"], dict) else ""
    return f"{place}: {message}{got}." if place and first["type"] != "value_error" else f"{message}{got}."
