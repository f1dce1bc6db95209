"""What all jobs have in common: prepare, train, evaluate, check, finish, each resumable."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.conformance import RULES, check
from regard.records import Checks, Run, Status
from regard.train.config import JobConfig
from regard.train.hardware import choose_hardware, git_commit, peak_bytes, versions
from regard.train.loop import Fit, Task
from regard.train.progress import Progress, Silent
from regard.train.recompute import recompute_blocks

__all__ = ["Job"]

_Config = TypeVar("_Config", bound=JobConfig)
_Model = TypeVar("_Model", bound=nn.Module)


class Job(ABC, Generic[_Config, _Model]):
    """Trains a model into a run folder.

    Call ``prepare``, ``train``, ``evaluate``, ``check`` and ``finish`` in this order; each skips what an earlier
    process finished. A job says what its data, its model and its scores are; the rest is here.

    Args:
        config: the recipe.
        run: the run folder.
        progress: told what happens.
    """

    contenders: str
    """What ``evaluate`` compares, for the title of that stage."""

    def __init__(self, config: _Config, run: Run, progress: Progress | None = None) -> None:
        self._config = config
        self._run = run
        self._began = np.array([time.perf_counter(), time.process_time()])
        self._training = np.zeros(2)
        self._progress = progress or Silent()
        self._hardware = choose_hardware(config.device, config.precision)
        self._made: _Model | None = None

    # what each job says

    @abstractmethod
    def _load_data(self) -> dict[str, Any]:
        """Load, split and encode the data, write ``audit.json`` and ``split.json``, return the audit."""

    @abstractmethod
    def _model_name(self) -> str:
        """Return what a person calls the model."""

    @abstractmethod
    def _new_model(self) -> _Model:
        """Return the model before its first step; what is new in it is drawn from PyTorch's generator."""

    @abstractmethod
    def _load_model(self, folder: Path) -> _Model:
        """Return the model that ``_save_model`` wrote."""

    @abstractmethod
    def _save_model(self, model: _Model, folder: Path) -> None:
        """Write the model and what else it takes to use it."""

    @abstractmethod
    def _task(self, model: _Model) -> Task:
        """Return the task of the training loop."""

    @abstractmethod
    def _score(self, model: _Model) -> dict[str, Any]:
        """Score the model and the baselines on the test set; return the content of ``metrics.json``."""

    @abstractmethod
    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        """Return the module, on the CPU, whose attention is checked, and the lines of Python that make it."""

    # what all jobs do

    def prepare(self) -> dict[str, Any]:
        """Load, split, audit and encode the data; return the audit."""
        audit = self._load_data()
        self._run.update(versions=versions(), device=self._hardware.to_dict(), git_commit=git_commit())
        return audit

    def describe(self) -> str:
        """Return one line on what will be trained and on what."""
        precision = str(self._hardware.precision).removeprefix("torch.")
        epochs = self._config.optim.epochs
        work = f"{self._model_name()}, {epochs} epoch{'s' if epochs > 1 else ''}"
        return f"{work} on {self._hardware.name}, {precision}: {self._hardware.reason}"

    def train(self) -> None:
        """Train to the end, from the checkpoint if there is one, and write the model."""
        folder = self._run.folder / "model"
        if next(self._run.events("trained"), None) is not None:
            self._made = self._load_model(folder)
            self._progress.say("The model of this run is trained already.")
            return
        torch.manual_seed(self._config.seed)
        self._made = self._new_model()
        if self._config.recompute:
            recompute_blocks(self._made)
        if self._config.compile:
            self._made.compile(dynamic=True)
        fit = Fit(
            self._task(self._made),
            run=self._run,
            optim=self._config.optim,
            watching=self._config.watch,
            checkpoint_every_s=self._config.checkpoint_every_s,
            progress=self._progress,
            seed=self._config.seed,
        )
        began = np.array([time.perf_counter(), time.process_time()])
        totals = fit.run()
        self._training = np.array([time.perf_counter(), time.process_time()]) - began
        self._run.heads.finish()
        self._save_model(self._made, folder)
        self._run.update(kernels=totals.pop("kernels"), coverage=totals.pop("coverage"))
        self._run.event("trained", **totals, peak_bytes=peak_bytes())

    def evaluate(self) -> dict[str, Any]:
        """Score the model and the baselines on the test set; write ``metrics.json`` and return its content."""
        if self._run.has("metrics"):
            content: dict[str, Any] = self._run.read("metrics")
            return content
        content = self._score(self._model)
        self._run.write("metrics", content)
        return content

    def check(self) -> Checks | None:
        """Prove the laws of attention on the model that was written; None where the recipe does not ask for it.

        The fast check is made, on the CPU.
        """
        if not self._config.check:
            return None
        if self._run.has("checks"):
            return self._run.checks()
        module, origin = self._checked(self._run.folder / "model")
        titles: list[str] = []

        def tell(title: str) -> None:
            if not titles:
                self._progress.start("checking", len(RULES))
            else:
                self._progress.advance()
            titles.append(title)

        report = check(module, fast=True, seed=self._config.seed, origin=origin, progress=tell)
        self._progress.stop()
        checks = report.record().model_copy(update={"target": str(self._run.folder / "model")})
        self._run.write_checks(checks)
        return checks

    def finish(self) -> None:
        """Mark the run as finished and drop the checkpoint, which the written model replaces.

        The recorded times are those of training, over all processes that worked on it, and of this process's other
        stages.
        """
        trained = next(self._run.events("trained"), {})
        spent = np.array([time.perf_counter(), time.process_time()]) - self._began - self._training
        wall_s, cpu_s = spent + np.array([trained.get("wall_s", 0.0), trained.get("cpu_s", 0.0)])
        self._run.update(status=Status.FINISHED, wall_s=round(wall_s, 2), cpu_s=round(cpu_s, 2), message=None)
        self._run.event("finished", steps=trained.get("steps"))
        (self._run.folder / "checkpoint.pt").unlink(missing_ok=True)

    @property
    def _model(self) -> _Model:
        if self._made is None:
            raise ArgumentError("A job must train before it evaluates; call train().")
        return self._made
