"""Recipes, the training loop and the jobs: a folder for each task, each step watched and resumable.

May import every room below (evaluate, observe, data, models, modules, functional, records); imports no command line,
viewer or readiness. A run folder holds everything that it produces.
"""

from regard.train.checkpoint import load_checkpoint, save_checkpoint
from regard.train.classification.config import ClassifierConfig
from regard.train.classification.inference import Classifier
from regard.train.config import JobConfig, OptimConfig, WatchConfig
from regard.train.forecasting.config import ForecastingConfig
from regard.train.forecasting.inference import Forecast, TrainedForecaster
from regard.train.frames.config import FramesConfig
from regard.train.frames.inference import SequencePredictor
from regard.train.hardware import Hardware, choose_hardware
from regard.train.job import Job
from regard.train.jobs import make_job
from regard.train.language.config import LanguageConfig
from regard.train.language.inference import Writer
from regard.train.loop import BatchLoss, Fit, Task
from regard.train.progress import Progress, Silent
from regard.train.ranks import Ranks, join_ranks
from regard.train.recipes import RECIPES, Recipe, configure
from regard.train.schedule import learning_rate_factor
from regard.train.tagging.config import TaggerConfig
from regard.train.tagging.inference import Tagger
from regard.train.translation.book import BookSource, translate_book
from regard.train.translation.book_judging import judge_book
from regard.train.translation.config import TranslatorConfig
from regard.train.translation.inference import Translator

__all__ = [
    "RECIPES",
    "BatchLoss",
    "BookSource",
    "Classifier",
    "ClassifierConfig",
    "Fit",
    "Forecast",
    "ForecastingConfig",
    "FramesConfig",
    "Hardware",
    "Job",
    "JobConfig",
    "LanguageConfig",
    "OptimConfig",
    "Progress",
    "Ranks",
    "Recipe",
    "SequencePredictor",
    "Silent",
    "Tagger",
    "TaggerConfig",
    "Task",
    "TrainedForecaster",
    "Translator",
    "TranslatorConfig",
    "WatchConfig",
    "Writer",
    "choose_hardware",
    "configure",
    "join_ranks",
    "judge_book",
    "learning_rate_factor",
    "load_checkpoint",
    "make_job",
    "save_checkpoint",
    "translate_book",
]
