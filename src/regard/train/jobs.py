"""From a config to the job that it describes."""

from typing import Any

from regard._errors import ArgumentError
from regard.records import Run
from regard.train.classification.config import ClassifierConfig
from regard.train.classification.job import ClassifierJob
from regard.train.config import JobConfig
from regard.train.forecasting.config import ForecastingConfig
from regard.train.forecasting.job import ForecasterJob
from regard.train.frames.config import FramesConfig
from regard.train.frames.job import FramesJob
from regard.train.job import Job
from regard.train.language.config import LanguageConfig
from regard.train.language.job import LanguageJob
from regard.train.masked.config import MaskedConfig
from regard.train.masked.job import MaskedJob
from regard.train.progress import Progress
from regard.train.tagging.config import TaggerConfig
from regard.train.tagging.job import TaggerJob
from regard.train.translation.config import TranslatorConfig
from regard.train.translation.job import TranslatorJob

__all__ = ["make_job"]

_JOBS: dict[type[JobConfig], type[Job[Any, Any]]] = {
    ClassifierConfig: ClassifierJob,
    ForecastingConfig: ForecasterJob,
    FramesConfig: FramesJob,
    LanguageConfig: LanguageJob,
    MaskedConfig: MaskedJob,
    TaggerConfig: TaggerJob,
    TranslatorConfig: TranslatorJob,
}


def make_job(config: JobConfig, run: Run, progress: Progress | None = None) -> Job[Any, Any]:
    """Return the job of ``config`` in the folder of ``run``.

    Raises:
        ArgumentError: no job has such a config.
    """
    kind = _JOBS.get(type(config))
    if kind is None:
        raise ArgumentError(f"A job needs a config of a recipe, got {type(config).__name__}; use configure().")
    return kind(config, run, progress)
