"""The job of a text classifier."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.data import Tokenizer, load_tokenizer, train_wordpiece
from regard.evaluate import Predictions, linear_baseline, majority_baseline, row_values, score_classifiers
from regard.models import (
    RecurrentForSequenceClassification,
    load_classifier,
    save_classifier,
    save_recurrent,
)
from regard.records import Checks, Run
from regard.train.classification.config import ClassifierConfig
from regard.train.classification.corpus import Corpus, build_corpus
from regard.train.classification.inference import open_classifier
from regard.train.classification.model import ClassifierModel, model_name, new_classifier, pretrained_folder
from regard.train.classification.task import ClassifierTask
from regard.train.job import Job
from regard.train.progress import Progress

__all__ = ["ClassifierJob"]


class ClassifierJob(Job[ClassifierConfig, ClassifierModel]):
    """Trains a classifier on labelled documents, a pretrained one or from scratch; see ``Job``."""

    contenders = "the model, the tuned linear baseline, the majority class"

    def __init__(self, config: ClassifierConfig, run: Run, progress: Progress | None = None) -> None:
        super().__init__(config, run, progress)
        self._tokenizer = _tokenizer(config)
        self._corpus: Corpus | None = None

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _load_data(self) -> dict[str, Any]:
        self._corpus = build_corpus(
            self._config.data, self._tokenizer, seed=self._split_seed(), run=self._run, progress=self._progress
        )
        return self._corpus.audit

    def _split_seed(self) -> int:
        return self._config.seed if self._config.data.seed is None else self._config.data.seed

    def _model_name(self) -> str:
        return model_name(self._config.model)

    def _new_model(self) -> ClassifierModel:
        corpus = self._ready()
        return new_classifier(
            self._config.model,
            len(corpus.labels),
            vocab_size=corpus.tokenizer.vocab_size,
            max_len=self._config.data.max_len,
            pad_id=corpus.tokenizer.pad_id,
            attention_dtype=self._attention_dtype(),
        )

    def _load_model(self, folder: Path) -> ClassifierModel:
        return open_classifier(folder, attention_dtype=self._attention_dtype())

    def _save_model(self, model: ClassifierModel, folder: Path) -> None:
        if isinstance(model, RecurrentForSequenceClassification):
            save_recurrent(model, folder)
        else:
            save_classifier(model, folder)
        self._ready().tokenizer.save(folder)
        self._run.write("labels", self._ready().labels)

    def _task(self, model: ClassifierModel) -> ClassifierTask:
        return ClassifierTask(
            model,
            self._ready(),
            optim=self._config.optim,
            seed=self._config.seed,
            hardware=self._hardware,
            pad_id=self._ready().tokenizer.pad_id,
        )

    def _score(self, model: ClassifierModel) -> dict[str, Any]:
        corpus = self._ready()
        train, validation, test = (corpus.splits[name] for name in ("train", "validation", "test"))
        ours = self._predictions(model)

        def tell(done: int, total: int) -> None:
            if done == 1:
                self._progress.start("tuning the linear baseline", total)
            self._progress.advance()

        linear = linear_baseline(
            train.documents.texts,
            train.targets,
            validation.documents.texts,
            validation.targets,
            test.documents.texts,
            seed=self._split_seed(),
            progress=tell,
        )
        self._progress.stop()
        majority = majority_baseline(train.targets, len(test.ids), corpus.labels)
        models = [ours, linear, majority]
        right = {one.name: (one.predicted == test.targets, np.ones(len(test.ids))) for one in models}
        self._run.write("rows", row_values("accuracy", right, lengths=[len(ids) for ids in test.ids]))
        return score_classifiers(corpus.labels, test.targets, models)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        """Return the encoder, whose outputs are one vector per token, which the laws speak of."""
        origin = f"from regard.models import load_classifier\nload_classifier({str(folder)!r}).bert"
        return load_classifier(folder).bert, origin

    def _predictions(self, model: ClassifierModel) -> Predictions:
        task, test = self._task(model), self._ready().splits["test"]
        began = time.perf_counter()
        probabilities = task.predict(test)
        seconds = time.perf_counter() - began
        fine_tuned = "" if self._config.model.pretrained == "none" else ", fine-tuned"
        return Predictions(
            name=self._model_name() + fine_tuned,
            kind="model",
            scores=probabilities,
            predicted=probabilities.argmax(axis=1),
            are_probabilities=True,
            details={
                "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
                "seconds": round(seconds, 2),
                "documents_per_s": round(len(test.ids) / seconds, 1),
            },
        )

    def _ready(self) -> Corpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its documents before it trains or evaluates; call prepare().")
        return self._corpus

    def _attention_dtype(self) -> torch.dtype | None:
        wanted = self._config.model.attention_dtype
        if wanted == "auto":
            return self._hardware.attention_dtype
        return torch.float32 if wanted == "float32" else None


def _tokenizer(config: ClassifierConfig) -> Tokenizer | Callable[[Sequence[str]], Tokenizer]:
    """Return the tokenizer of the pretrained encoder, or what learns one from texts.

    The same texts give the same vocabulary, so a run that goes on learns the one that it had.
    """
    folder = pretrained_folder(config.model)
    if folder is not None:
        return load_tokenizer(folder)
    assert config.model.vocab_size is not None, "the config gives a model from scratch its sizes"
    return partial(train_wordpiece, vocab_size=config.model.vocab_size)
