"""Recipes, the training loop and the job of a text classifier, each step watched and resumable.

May import every room below (evaluate, observe, data, models, modules, functional, records); imports no command line,
viewer or readiness. A run folder holds everything that it produces.
"""

from regard.train.checkpoint import load_checkpoint, save_checkpoint
from regard.train.config import ClassifierConfig, DataConfig, ModelConfig, OptimConfig, WatchConfig
from regard.train.hardware import Hardware, choose_hardware
from regard.train.inference import Classifier
from regard.train.loop import BatchLoss, Fit, Task, linear_schedule
from regard.train.progress import Progress, Silent
from regard.train.recipes import RECIPES, configure
from regard.train.trainer import Trainer

__all__ = [
    "RECIPES",
    "BatchLoss",
    "Classifier",
    "ClassifierConfig",
    "DataConfig",
    "Fit",
    "Hardware",
    "ModelConfig",
    "OptimConfig",
    "Progress",
    "Silent",
    "Task",
    "Trainer",
    "WatchConfig",
    "choose_hardware",
    "configure",
    "linear_schedule",
    "load_checkpoint",
    "save_checkpoint",
]
