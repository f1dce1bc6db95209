"""Which runs a comparison takes: every variant with every seed, on the same split and from scratch.

A variant is an architecture, or one architecture with one value of a setting, such as a length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from regard._errors import ArgumentError
from regard.train.config import JobConfig
from regard.train.language.config import LanguageConfig
from regard.train.recipes import RECIPES, configure

__all__ = ["ARCHITECTURES", "BASELINES", "PlannedRun", "plan_comparison"]

ARCHITECTURES = ("transformer", "lstm", "gru")
BASELINES = "linear"
"""Stands for the baselines that every run scores anyway, the linear one among them; it takes no run of its own."""

_FROM_SCRATCH = {"text-classifier": "from-scratch", "demo": "from-scratch", "demo-fast": "from-scratch"}
"""A pretrained model would be compared with its pretraining, so the recipes that begin with one give way."""
_COMPARED = (
    "text-classifier",
    "from-scratch",
    "token-tagger",
    "language-model",
    "translator",
    "forecaster",
    "frames",
)
_SETTINGS = {"text-classifier": ["data.source=table"], "token-tagger": ["model.pretrained=none"]}
"""What takes the recipe that trains from scratch to the data of another, or a recipe to a start from scratch."""
_UNWATCHED = ("watch.every_step=[]", 'watch.sometimes=["entropy"]', "watch.interval=1000000", "check=false")
"""Looking at attention would cost the model that has it."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training.

    Attributes:
        model: the architecture, or the value that was varied, as in ``"window=64"``.
        seed: of weights and batches.
        recipe: name of the recipe.
        settings: what is changed in it, as ``--set`` takes it.
        config: what comes of both.
    """

    model: str
    seed: int
    recipe: str
    settings: tuple[str, ...]
    config: JobConfig

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.model}-seed{self.seed}"


def plan_comparison(
    recipe: str,
    models: Sequence[str],
    seeds: Sequence[int],
    settings: Iterable[str] = (),
    *,
    vary: str | None = None,
) -> list[PlannedRun]:
    """Return the runs, seed by seed, so that a comparison that is stopped has seen every variant.

    Args:
        recipe: name of a recipe of classification, tagging, language modelling, translation, forecasting or frames.
        models: out of ``ARCHITECTURES`` and ``BASELINES``; the first is the one that others are held against.
        seeds: three or more; fewer say nothing of chance.
        settings: of all models, or of one, as in ``"lstm:optim.lr=2e-3"``.
        vary: a setting and its values, as in ``"data.window=64,128,256"``: then there is one architecture, and its
            values are what is compared, the first against the others.

    Raises:
        ArgumentError: an unknown architecture or recipe, too few seeds, or a setting that is refused.
    """
    _check(models, seeds, varied=vary is not None)
    trained = [model for model in models if model != BASELINES]
    base, more = _base(recipe)
    everyone, own = _sorted(settings, trained)
    variants = _values_of(vary, trained[0]) if vary is not None else [(model, model, ()) for model in trained]
    runs = []
    for seed in seeds:
        for name, model, changed in variants:
            values = [f"model.architecture={model}", *more, *_UNWATCHED, *everyone, *own[model], *changed]
            values.append(f"seed={seed}")
            config = configure(base, values)
            data: Any = getattr(config, "data", None)  # each config has its own kind of data
            if "seed" in type(data).model_fields:
                values.append(f"data.seed={seeds[0]}")
                config = configure(base, values)
            runs.append(PlannedRun(model=name, seed=seed, recipe=base, settings=tuple(values), config=config))
    _same_tokens(runs)
    return runs


def _check(models: Sequence[str], seeds: Sequence[int], *, varied: bool) -> None:
    known = (*ARCHITECTURES, BASELINES)
    unknown = [model for model in models if model not in known]
    if unknown or len(set(models)) != len(models):
        raise ArgumentError(f"Models must be some of {', '.join(known)}, each once; got {', '.join(models)}.")
    count = len([model for model in models if model != BASELINES])
    if varied and count != 1:
        raise ArgumentError(
            f"Where a setting is varied there must be one architecture, got {', '.join(models) or 'none'}; give one of "
            f"{', '.join(ARCHITECTURES)} as the models."
        )
    if not varied and count < 2:
        raise ArgumentError(f"A comparison needs two architectures or more, got {', '.join(models) or 'none'}.")
    if len(set(seeds)) < 3 or len(set(seeds)) != len(seeds):
        raise ArgumentError(
            f"A comparison needs three different seeds or more, got {list(seeds)}: what chance does between fewer "
            "trainings cannot be told."
        )


def _same_tokens(runs: Sequence[PlannedRun]) -> None:
    """Refuse language models of unlike tokens, of which neither losses nor rows can be held against each other."""
    found = {
        run.model: (run.config.data.tokens, run.config.data.vocab_size)
        for run in runs
        if isinstance(run.config, LanguageConfig)
    }
    if len(set(found.values())) > 1:
        raise ArgumentError(
            f"The loss of a token compares models of the same tokens alone, got {', '.join(found)} with data.tokens or "
            "data.vocab_size of their own; train them one by one and compare bits_per_byte or word_perplexity."
        )


def _values_of(vary: str, model: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the name, the architecture and the setting of each value."""
    key, equals, listed = vary.partition("=")
    values = [value.strip() for value in listed.split(",")]
    if not equals or not key or not all(values) or len(set(values)) != len(values) or len(values) < 2:
        raise ArgumentError(
            f"What is varied must be a setting with two or more different values, as in data.window=64,128,256; got "
            f"{vary!r}."
        )
    if key in ("seed", "data.seed"):
        raise ArgumentError(
            f"Seeds are varied by themselves: give them as --seeds, not as what is varied, got {vary!r}."
        )
    return [(f"{key.rpartition('.')[2]}={value}", model, (f"{key}={value}",)) for value in values]


def _base(recipe: str) -> tuple[str, list[str]]:
    """Return the recipe that trains from scratch, and what takes it to the data of ``recipe``."""
    base = _FROM_SCRATCH.get(recipe, recipe)
    if base in RECIPES and base not in _COMPARED:
        raise ArgumentError(
            f"A comparison takes one of {', '.join(_COMPARED)}, got {recipe}, which has one architecture."
        )
    return base, _SETTINGS.get(recipe, [])


def _sorted(settings: Iterable[str], models: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the settings of all models and those of each."""
    everyone: list[str] = []
    own: dict[str, list[str]] = {model: [] for model in models}
    for setting in settings:
        model, colon, rest = setting.partition(":")
        if colon and "=" not in model:
            if model not in own:
                raise ArgumentError(f"A setting of one model must name one of {', '.join(own)}, got {setting!r}.")
            own[model].append(rest)
        else:
            everyone.append(setting)
    return everyone, own
