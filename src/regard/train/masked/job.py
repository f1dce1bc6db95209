"""The job of pretraining on masked words."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.evaluate import Metric, NGram, RowSums, mean, score_models
from regard.models import Bert, BertConfig, BertForMaskedLM, load_masked_lm, save_masked_lm
from regard.train.job import Job
from regard.train.masked.config import MaskedConfig
from regard.train.masked.corpus import MaskedCorpus, build_masked_corpus
from regard.train.masked.masking import Masking
from regard.train.masked.task import Guesses, MaskedTask

__all__ = ["MaskedJob", "new_masked_model"]

_FEED_FORWARD = 4  # times the width, as in BERT

_NATS = mean("nats", "tokens")
_METRICS = (
    Metric(name="loss", title="Nats per hidden token", columns=_NATS[0], of=_NATS[1], lower_is_better=True),
    Metric(
        name="perplexity",
        title="Perplexity",
        columns=_NATS[0],
        of=lambda sums: np.exp(_NATS[1](sums)),
        lower_is_better=True,
    ),
)


class MaskedJob(Job[MaskedConfig, BertForMaskedLM]):
    """Trains a BERT from scratch to guess hidden words of one text; see ``Job``.

    Its ``model/`` is an encoder that ``text-classifier`` goes on from, with ``model.pretrained=RUN/model``.
    """

    contenders = "the model, pairs of tokens, single tokens"

    _corpus: MaskedCorpus | None = None

    def _load_data(self) -> dict[str, Any]:
        self._corpus = build_masked_corpus(self._config.data, run=self._run, progress=self._progress)
        return self._corpus.audit

    def _model_name(self) -> str:
        model = self._config.model
        layers = "1 layer" if model.num_layers == 1 else f"{model.num_layers} layers"
        return f"BERT of {layers} and width {model.embed_dim}"

    def _new_model(self) -> BertForMaskedLM:
        tokenizer = self._ready().tokenizer
        sizes = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
        return new_masked_model(self._config, **sizes, attention_dtype=self._hardware.attention_dtype)

    def _load_model(self, folder: Path) -> BertForMaskedLM:
        return load_masked_lm(folder, attention_dtype=self._hardware.attention_dtype)

    def _save_model(self, model: BertForMaskedLM, folder: Path) -> None:
        save_masked_lm(model, folder)
        self._ready().tokenizer.save(folder)

    def _task(self, model: BertForMaskedLM) -> MaskedTask:
        tokenizer = self._ready().tokenizer
        masking = Masking(
            share=self._config.data.mask_share,
            mask_id=tokenizer.id_of("[MASK]"),
            special_ids=tuple(tokenizer.id_of(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")),
            vocab_size=tokenizer.vocab_size,
        )
        return MaskedTask(
            model,
            self._ready(),
            masking=masking,
            optim=self._config.optim,
            seed=self._config.seed,
            hardware=self._hardware,
        )

    def _score(self, model: BertForMaskedLM) -> dict[str, Any]:
        test = self._ready().windows["test"]
        began = time.perf_counter()
        guesses = self._task(model).guess(test)
        seconds = time.perf_counter() - began
        details = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 2),
            "hidden_tokens": len(guesses.nats),
            "accuracy": round(float(guesses.right.mean()), 4),
        }
        rows = [_row(self._model_name(), "model", guesses.nats, guesses, len(test), details)]
        rows += self._baselines(guesses, test)
        unit = f"windows of {self._config.data.window} tokens"
        return score_models(self._config.task, _METRICS, rows, unit=unit, seed=self._config.seed)

    def _baselines(self, guesses: Guesses, test: npt.NDArray[np.int64]) -> list[RowSums]:
        """Return counted pairs, which see the token before the hidden one as it was, and single tokens."""
        corpus = self._ready()
        counted = NGram(corpus.windows["train"].ravel(), vocab_size=corpus.tokenizer.vocab_size, order=2)
        rows = []
        for name, order in (("pairs of tokens, Witten–Bell", 2), ("single tokens", 1)):
            nats = counted.nats(test.ravel(), order=order).reshape(test.shape)
            nats = nats[guesses.windows, guesses.places]
            rows.append(_row(name, "baseline", nats, guesses, len(test), {"order": order}))
        return rows

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        origin = f"from regard.models import load_masked_lm\nload_masked_lm({str(folder)!r}).bert"
        return load_masked_lm(folder).bert, origin

    def _ready(self) -> MaskedCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its text before it trains or evaluates; call prepare().")
        return self._corpus


def _row(
    name: str, kind: str, nats: npt.NDArray[np.float64], guesses: Guesses, num_windows: int, details: dict[str, Any]
) -> RowSums:
    """Return the sums over the hidden tokens of each window."""
    columns = {
        "nats": np.bincount(guesses.windows, weights=nats, minlength=num_windows),
        "tokens": np.bincount(guesses.windows, minlength=num_windows),
    }
    return RowSums(name=name, kind=kind, columns=columns, details=details)


def new_masked_model(
    config: MaskedConfig, *, vocab_size: int, pad_id: int, attention_dtype: torch.dtype | None
) -> BertForMaskedLM:
    """Return the model before its first step.

    Args:
        config: the recipe.
        vocab_size: token ids.
        pad_id: id of the padding token.
        attention_dtype: precision of the attention core; None for that of the model.
    """
    model = config.model
    sizes = BertConfig(
        vocab_size=vocab_size,
        embed_dim=model.embed_dim,
        num_heads=model.num_heads,
        num_layers=model.num_layers,
        feed_forward_dim=_FEED_FORWARD * model.embed_dim,
        max_len=config.data.window,
        pad_id=pad_id,
        dropout_p=model.dropout_p,
    )
    return BertForMaskedLM(Bert(sizes, attention_dtype=attention_dtype))
