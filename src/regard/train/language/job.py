"""The job of a language model."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from regard._errors import ArgumentError
from regard.data import consecutive_windows
from regard.evaluate import Metric, NGram, RowSums, mean, rows_of_sums, score_models
from regard.models import load_decoder
from regard.records import Checks
from regard.train.job import Job
from regard.train.language.config import LanguageConfig
from regard.train.language.corpus import LanguageCorpus, build_language_corpus
from regard.train.language.model import (
    LanguageNetwork,
    model_name,
    new_language_model,
    open_language_model,
    save_language_model,
)
from regard.train.language.task import LanguageTask

__all__ = ["LanguageJob"]

_ORDERS = {"characters": 8}  # longest n-gram that is tried

_NATS = mean("nats", "tokens")
_BITS = mean("bits", "bytes")
_METRICS = (
    Metric(name="loss", title="Nats per token", columns=_NATS[0], of=_NATS[1], lower_is_better=True),
    Metric(
        name="perplexity",
        title="Perplexity",
        columns=_NATS[0],
        of=lambda sums: np.exp(_NATS[1](sums)),
        lower_is_better=True,
    ),
    Metric(name="bits_per_byte", title="Bits per byte", columns=_BITS[0], of=_BITS[1], lower_is_better=True),
)


class LanguageJob(Job[LanguageConfig, LanguageNetwork]):
    """Trains a decoder from scratch on one text; see ``Job``."""

    contenders = "the model, n-grams of the best length, single tokens"

    _corpus: LanguageCorpus | None = None

    def _load_data(self) -> dict[str, Any]:
        self._corpus = build_language_corpus(self._config.data, run=self._run, progress=self._progress)
        return self._corpus.audit

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _model_name(self) -> str:
        return model_name(self._config.model)

    def _new_model(self) -> LanguageNetwork:
        tokenizer = self._ready().tokenizer
        return new_language_model(
            self._config.model,
            vocab_size=tokenizer.vocab_size,
            max_len=self._config.data.window,
            pad_id=tokenizer.pad_id,
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
        task, test = self._task(model), self._ready().ids["test"]
        began = time.perf_counter()
        nats = task.nats(test)
        seconds = time.perf_counter() - began
        details = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 2),
            "tokens_per_s": round(len(test) / seconds, 1),
        }
        rows = [self._row(self._model_name(), "model", nats, details), *self._baselines()]
        self._run.write("rows", rows_of_sums(_METRICS[0], rows))
        return score_models(self._config.task, _METRICS, rows, unit=f"windows of {self._config.data.window} tokens")

    def _baselines(self) -> list[RowSums]:
        """Return n-grams of the length that predicts the validation text best, and single tokens."""
        corpus = self._ready()
        longest = min(_ORDERS[self._config.data.tokens], len(corpus.ids["train"]))
        self._progress.say("Counting n-grams …")
        counted = NGram(corpus.ids["train"], vocab_size=corpus.tokenizer.vocab_size, order=longest)
        validated = {
            order: float(counted.nats(corpus.ids["validation"], order=order).mean()) for order in range(1, longest + 1)
        }
        best = min(validated, key=lambda order: validated[order])
        rows = []
        for order in dict.fromkeys((best, 1)):
            name = "single tokens" if order == 1 else f"{order}-grams, Witten–Bell"
            nats = counted.nats(corpus.ids["test"], order=order)[1:]
            rows.append(self._row(name, "baseline", nats, {"order": order}))
        return rows

    def _row(self, name: str, kind: str, nats: npt.NDArray[np.float64], details: dict[str, Any]) -> RowSums:
        """Return the sums over each window of the test text."""
        corpus = self._ready()
        windows = consecutive_windows(len(corpus.ids["test"]), self._config.data.window)
        sums = np.array([nats[first:last].sum() for first, last in windows])
        tokens = np.array([last - first for first, last in windows])
        # Bytes a token are those of the whole test text: a window's own are not known once it is cut into tokens.
        bytes_each = corpus.num_bytes["test"] / len(corpus.ids["test"])
        columns = {"nats": sums, "tokens": tokens, "bits": sums / math.log(2), "bytes": tokens * bytes_each}
        return RowSums(name=name, kind=kind, columns=columns, details=details)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        return load_decoder(folder), f"from regard.models import load_decoder\nload_decoder({str(folder)!r})"

    def _ready(self) -> LanguageCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its text before it trains or evaluates; call prepare().")
        return self._corpus
