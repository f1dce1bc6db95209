"""The job of a text classifier: prepare, train, evaluate, finish, each resumable."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from regard._errors import ArgumentError
from regard.conformance import RULES, check
from regard.data import Tokenizer, load_tokenizer, train_wordpiece
from regard.evaluate import Predictions, linear_baseline, majority_baseline, score_classifiers
from regard.models import BertForSequenceClassification, load_classifier, save_classifier
from regard.records import Checks, Run, Status
from regard.train.classifier import ClassifierTask
from regard.train.config import ClassifierConfig
from regard.train.corpus import Corpus, build_corpus
from regard.train.hardware import choose_hardware, git_commit, versions
from regard.train.loop import Fit
from regard.train.model import model_name, new_classifier, pretrained_folder
from regard.train.progress import Progress, Silent

__all__ = ["Trainer"]


class Trainer:
    """Trains a classifier on labelled documents, a pretrained one or from scratch, into a run folder.

    Call ``prepare``, ``train``, ``evaluate``, ``check`` and ``finish`` in this order; each skips what an earlier
    process finished.

    Args:
        config: the recipe.
        run: the run folder.
        progress: told what happens.
    """

    def __init__(self, config: ClassifierConfig, run: Run, progress: Progress | None = None) -> None:
        self._config = config
        self._run = run
        self._began = np.array([time.perf_counter(), time.process_time()])
        self._training = np.zeros(2)
        self._progress = progress or Silent()
        self._hardware = choose_hardware(config.device, config.precision)
        self._tokenizer = _tokenizer(config)
        self._corpus: Corpus | None = None
        self._model: BertForSequenceClassification | None = None

    def prepare(self) -> dict[str, Any]:
        """Load, split, audit and encode the documents; return the audit."""
        self._corpus = build_corpus(
            self._config.data, self._tokenizer, seed=self._config.seed, run=self._run, progress=self._progress
        )
        self._run.update(versions=versions(), device=self._hardware.to_dict(), git_commit=git_commit())
        return self._corpus.audit

    def describe(self) -> str:
        """Return one line on what will be trained and on what."""
        precision = str(self._hardware.precision).removeprefix("torch.")
        epochs = self._config.optim.epochs
        work = f"{model_name(self._config.model)}, {epochs} epoch{'s' if epochs > 1 else ''}"
        return f"{work} on {self._hardware.name}, {precision}: {self._hardware.reason}"

    def train(self) -> None:
        """Train to the end, from the checkpoint if there is one, and write the model."""
        folder = self._run.folder / "model"
        if next(self._run.events("trained"), None) is not None:
            self._model = load_classifier(folder, attention_dtype=self._attention_dtype())
            self._progress.say("The model of this run is trained already.")
            return
        torch.manual_seed(self._config.seed)
        self._model = self._new_model()
        fit = Fit(
            self._task(),
            run=self._run,
            optim=self._config.optim,
            watching=self._config.watch,
            checkpoint_every_s=self._config.checkpoint_every_s,
            progress=self._progress,
        )
        began = np.array([time.perf_counter(), time.process_time()])
        totals = fit.run()
        self._training = np.array([time.perf_counter(), time.process_time()]) - began
        self._run.heads.finish()
        save_classifier(self._model, folder)
        self._ready().tokenizer.save(folder)
        self._run.write("labels", self._ready().labels)
        self._run.update(kernels=totals.pop("kernels"), coverage=totals.pop("coverage"))
        self._run.event("trained", **totals)

    def evaluate(self) -> dict[str, Any]:
        """Score the model and the baselines on the test set; write ``metrics.json`` and return its content."""
        if self._run.has("metrics"):
            content: dict[str, Any] = self._run.read("metrics")
            return content
        corpus = self._ready()
        train, validation, test = (corpus.splits[name] for name in ("train", "validation", "test"))
        model = self._predictions()

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
            seed=self._config.seed,
            progress=tell,
        )
        self._progress.stop()
        majority = majority_baseline(train.targets, len(test.ids), corpus.labels)
        content = score_classifiers(corpus.labels, test.targets, [model, linear, majority])
        self._run.write("metrics", content)
        return content

    def check(self) -> Checks | None:
        """Prove the laws of attention on the encoder that was written; None where the recipe does not ask for it.

        Its outputs are one vector per token, which the laws speak of. The fast check is made, on the CPU.
        """
        if not self._config.check:
            return None
        if self._run.has("checks"):
            return self._run.checks()
        encoder = load_classifier(self._run.folder / "model").bert
        origin = f"from regard.models import load_classifier\nload_classifier({str(self._run.folder / 'model')!r}).bert"
        titles: list[str] = []

        def tell(title: str) -> None:
            if not titles:
                self._progress.start("checking", len(RULES))
            else:
                self._progress.advance()
            titles.append(title)

        report = check(encoder, fast=True, seed=self._config.seed, origin=origin, progress=tell)
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

    def _predictions(self) -> Predictions:
        task, test = self._task(), self._ready().splits["test"]
        began = time.perf_counter()
        probabilities = task.predict(test)
        seconds = time.perf_counter() - began
        return Predictions(
            name=model_name(self._config.model) + ("" if self._is_new() else ", fine-tuned"),
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
            raise ArgumentError("A trainer must prepare its documents before it trains or evaluates; call prepare().")
        return self._corpus

    def _task(self) -> ClassifierTask:
        if self._model is None:
            raise ArgumentError("A trainer must train before it evaluates; call train().")
        return ClassifierTask(
            self._model,
            self._ready(),
            batch_size=self._config.optim.batch_size,
            seed=self._config.seed,
            hardware=self._hardware,
            pad_id=self._ready().tokenizer.pad_id,
        )

    def _is_new(self) -> bool:
        return self._config.model.pretrained == "none"

    def _new_model(self) -> BertForSequenceClassification:
        corpus = self._ready()
        return new_classifier(
            self._config.model,
            len(corpus.labels),
            vocab_size=corpus.tokenizer.vocab_size,
            max_len=self._config.data.max_len,
            pad_id=corpus.tokenizer.pad_id,
            attention_dtype=self._attention_dtype(),
        )

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
