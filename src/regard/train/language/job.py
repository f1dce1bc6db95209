"""The job of a language model."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from regard._errors import ArgumentError
from regard.evaluate import RowSums, rows_of_sums, score_models
from regard.models import load_decoder
from regard.records import Checks
from regard.train.job import Job
from regard.train.language.config import LanguageConfig
from regard.train.language.corpus import LanguageCorpus, build_language_corpus
from regard.train.language.given import given_name, given_tokenizer
from regard.train.language.model import (
    LanguageNetwork,
    model_name,
    new_language_model,
    open_language_model,
    save_language_model,
)
from regard.train.language.scores import counted_baselines, language_metrics, row_sums, told_of_unknowns
from regard.train.language.task import LanguageTask

__all__ = ["LanguageJob"]


class LanguageJob(Job[LanguageConfig, LanguageNetwork]):
    """Trains a decoder from scratch, or one that is given, on one text; see ``Job``."""

    contenders = "the model, n-grams of the best length, single tokens"

    _corpus: LanguageCorpus | None = None

    def _load_data(self) -> dict[str, Any]:
        given = self._config.model.pretrained
        own = None if given == "none" else partial(given_tokenizer, given)
        self._corpus = build_language_corpus(
            self._config.data, run=self._run, progress=self._progress, own_tokenizer=own
        )
        return self._corpus.audit

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _model_name(self) -> str:
        return model_name(self._config.model)

    def _new_model(self) -> LanguageNetwork:
        tokenizer, data = self._ready().tokenizer, self._config.data
        return new_language_model(
            self._config.model,
            vocab_size=tokenizer.vocab_size,
            max_len=data.window,
            # A decoder that is given knows its own.
            pad_id=0 if data.tokens == "own" else tokenizer.pad_id,
            tied=data.tokens != "characters",
        )

    def _load_model(self, folder: Path) -> LanguageNetwork:
        return open_language_model(folder, dropout_p=self._config.model.dropout_p)

    def _save_model(self, model: LanguageNetwork, folder: Path) -> None:
        save_language_model(model, folder)
        self._ready().tokenizer.save(folder)

    def _task(self, model: LanguageNetwork) -> LanguageTask:
        return LanguageTask(
            model,
            self._ready(),
            window=self._config.data.window,
            optim=self._config.optim,
            seed=self._config.seed,
            hardware=self._hardware,
        )

    def _score(self, model: LanguageNetwork) -> dict[str, Any]:
        corpus, settings = self._ready(), self._config
        metrics, rows = language_metrics(settings.data, corpus), [self._row(self._model_name(), "model", model)]
        if settings.model.pretrained != "none":
            self._progress.say("Scoring the decoder as it was given …")
            rows.append(self._row(f"{given_name(settings.model.pretrained)} as given", "baseline", self._new_model()))
        self._progress.say("Counting n-grams …")
        for name, nats, details in counted_baselines(settings.data, corpus):
            rows.append(row_sums(name, "baseline", nats, corpus.parts["test"], settings.data.window, details))
        self._run.write("rows", rows_of_sums(metrics[0], rows))
        content = score_models(settings.task, metrics, rows, unit=f"windows of {settings.data.window} tokens")
        return content | {"method": content["method"] + told_of_unknowns(corpus)}

    def _row(self, name: str, kind: str, model: LanguageNetwork) -> RowSums:
        """Return what ``model`` says of the test text."""
        test = self._ready().parts["test"]
        task = self._task(model)
        began = time.perf_counter()
        nats = task.nats(test.ids)
        seconds = time.perf_counter() - began
        details = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 2),
            "tokens_per_s": round(len(test.ids) / seconds, 1),
        }
        return row_sums(name, kind, nats, test, self._config.data.window, details)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        return load_decoder(folder), f"from regard.models import load_decoder\nload_decoder({str(folder)!r})"

    def _ready(self) -> LanguageCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its text before it trains or evaluates; call prepare().")
        return self._corpus
