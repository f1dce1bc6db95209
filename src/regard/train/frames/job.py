"""The job of a model of numeric frames."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from regard._errors import ArgumentError
from regard.evaluate import (
    LINEAR_SUMMARIES,
    REGRESSION_METRICS,
    TRAINING_MEAN,
    Predictions,
    linear_summaries,
    majority_baseline,
    mean_frames,
    nearest_centroid,
    nearest_neighbour,
    number_sums,
    row_values,
    rows_of_sums,
    score_classifiers,
    score_numbers,
    sequence_summaries,
)
from regard.models import FrameModel, count_parameters, load_frame_model, save_frame_model
from regard.records import Checks, Run
from regard.train.frames.config import FramesConfig
from regard.train.frames.dataset import FramesCorpus, FramesSplit, build_corpus
from regard.train.frames.inference import write_meaning
from regard.train.frames.model import model_name, new_frame_model
from regard.train.frames.task import FramesTask
from regard.train.job import Job
from regard.train.progress import Progress

__all__ = ["FramesJob"]

_UNIT = "sequences"

_Floats = npt.NDArray[np.float64]


class FramesJob(Job[FramesConfig, FrameModel]):
    """Trains a model that gives each sequence of frames a class or a number; see ``Job``."""

    def __init__(self, config: FramesConfig, run: Run, progress: Progress | None = None) -> None:
        super().__init__(config, run, progress)
        self._corpus: FramesCorpus | None = None
        others = "nearest centroid and neighbour, the majority class"
        self.contenders = f"the model, a linear model, {others if config.model.target == 'class' else 'the mean'}"

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _load_data(self) -> dict[str, Any]:
        config = self._config
        seed = config.seed if config.data.seed is None else config.data.seed
        self._corpus = build_corpus(config.data, config.model.target, seed=seed, run=self._run)
        return self._corpus.audit

    def _model_name(self) -> str:
        return model_name(self._config.model)

    def _new_model(self) -> FrameModel:
        corpus = self._ready()
        return new_frame_model(self._config.model, num_channels=len(corpus.channels), num_outputs=corpus.num_outputs)

    def _load_model(self, folder: Path) -> FrameModel:
        return load_frame_model(folder)

    def _save_model(self, model: FrameModel, folder: Path) -> None:
        save_frame_model(model, folder)
        write_meaning(self._ready(), folder)

    def _task(self, model: FrameModel) -> FramesTask:
        config = self._config
        return FramesTask(model, self._ready(), optim=config.optim, seed=config.seed, hardware=self._hardware)

    def _score(self, model: FrameModel) -> dict[str, Any]:
        corpus = self._ready()
        test = corpus.splits["test"]
        began = time.perf_counter()
        outputs = self._task(model).outputs(test)
        seconds = time.perf_counter() - began
        details = {
            "parameters": count_parameters(model),
            "seconds": round(seconds, 2),
            "sequences_per_s": round(len(test.frames) / seconds, 1),
        }
        if corpus.labels is not None:
            return self._score_classes(outputs, corpus.labels, details)
        assert corpus.numbers is not None, "a corpus has classes or numbers"
        return self._score_numbers(corpus.numbers.undo(outputs[:, 0]), details)

    def _score_classes(self, outputs: _Floats, labels: list[str], details: dict[str, Any]) -> dict[str, Any]:
        train, validation, test = (self._ready().splits[name] for name in ("train", "validation", "test"))
        probabilities = np.exp(outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True))
        scores, how = self._linear([np.eye(len(labels))[one.targets] for one in (train, validation)], _share_wrong)
        means = mean_frames(train.frames), train.targets, mean_frames(test.frames)
        models = [
            _predictions(self._model_name(), "model", probabilities, details, are_probabilities=True),
            _predictions(LINEAR_SUMMARIES, "baseline", scores, how, are_probabilities=False),
            nearest_neighbour(*means, num_classes=len(labels)),
            nearest_centroid(*means, num_classes=len(labels)),
            majority_baseline(train.targets, len(test.frames), labels),
        ]
        right = {one.name: (one.predicted == test.targets, np.ones(len(test.frames))) for one in models}
        self._run.write("rows", row_values("accuracy", right, lengths=test.lengths))
        return score_classifiers(labels, test.targets, models, task=self._config.task, unit=_UNIT)

    def _score_numbers(self, ours: _Floats, details: dict[str, Any]) -> dict[str, Any]:
        train, validation, test = (self._ready().splits[name].targets for name in ("train", "validation", "test"))
        said, how = self._linear([train[:, None], validation[:, None]], _squared_error)
        rows = [
            number_sums(self._model_name(), "model", ours, test, details=details),
            number_sums(LINEAR_SUMMARIES, "baseline", said[:, 0], test, details=how),
            number_sums(TRAINING_MEAN, "baseline", np.full(len(test), train.mean()), test),
        ]
        self._run.write("rows", rows_of_sums(REGRESSION_METRICS[0], rows))
        return score_numbers(self._config.task, rows, unit=_UNIT)

    def _linear(self, outcomes: list[_Floats], cost: Any) -> tuple[_Floats, dict[str, Any]]:
        splits = self._ready().splits
        train, validation, test = (_summaries(splits[name]) for name in ("train", "validation", "test"))
        return linear_summaries((train, outcomes[0]), (validation, outcomes[1]), test, cost=cost)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        """Return the encoder, whose outputs are one vector per patch, which the laws speak of."""
        origin = f"from regard.models import load_frame_model\nload_frame_model({str(folder)!r}).encoder"
        return load_frame_model(folder).encoder, origin

    def _ready(self) -> FramesCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its sequences before it trains or evaluates; call prepare().")
        return self._corpus


def _summaries(split: FramesSplit) -> _Floats:
    return sequence_summaries(split.frames)


def _share_wrong(answers: _Floats, outcomes: _Floats) -> float:
    """Return the share of rows whose largest answer is of another class."""
    return float((answers.argmax(1) != outcomes.argmax(1)).mean())


def _squared_error(answers: _Floats, outcomes: _Floats) -> float:
    return float(np.square(answers - outcomes).mean())


def _predictions(
    name: str, kind: str, scores: _Floats, details: dict[str, Any], *, are_probabilities: bool
) -> Predictions:
    return Predictions(
        name=name,
        kind=kind,
        scores=scores,
        predicted=scores.argmax(axis=1),
        are_probabilities=are_probabilities,
        details=details,
    )
