"""The job of a tagger."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard._errors import ArgumentError
from regard.data import Tokenizer, load_tokenizer, train_wordpiece
from regard.evaluate import (
    MAJORITY_TAG,
    TAG_ACCURACY,
    WORD_TAGS,
    Tagged,
    WordTags,
    row_values,
    score_taggers,
    tag_sums,
)
from regard.models import load_token_classifier
from regard.records import Checks, Run
from regard.train.classification.model import model_name, pretrained_folder
from regard.train.job import Job
from regard.train.progress import Progress
from regard.train.tagging.config import TaggerConfig
from regard.train.tagging.corpus import TaggingCorpus, build_tagging_corpus
from regard.train.tagging.model import TaggingModel, new_tagger, open_tagger, save_tagger
from regard.train.tagging.task import TaggerTask

__all__ = ["TaggerJob"]


class TaggerJob(Job[TaggerConfig, TaggingModel]):
    """Trains a tagger on tagged sentences, a pretrained one or from scratch; see ``Job``."""

    contenders = f"the model, the {WORD_TAGS}, the {MAJORITY_TAG}"

    def __init__(self, config: TaggerConfig, run: Run, progress: Progress | None = None) -> None:
        super().__init__(config, run, progress)
        self._tokenizer = _tokenizer(config)
        self._corpus: TaggingCorpus | None = None

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _load_data(self) -> dict[str, Any]:
        self._corpus = build_tagging_corpus(
            self._config.data, self._tokenizer, seed=self._split_seed(), run=self._run, progress=self._progress
        )
        return self._corpus.audit

    def _split_seed(self) -> int:
        return self._config.seed if self._config.data.seed is None else self._config.data.seed

    def _model_name(self) -> str:
        return model_name(self._config.model)

    def _new_model(self) -> TaggingModel:
        corpus = self._ready()
        return new_tagger(
            self._config.model,
            len(corpus.labels),
            vocab_size=corpus.tokenizer.vocab_size,
            max_len=self._config.data.max_len,
            pad_id=corpus.tokenizer.pad_id,
            attention_dtype=self._attention_dtype(),
        )

    def _load_model(self, folder: Path) -> TaggingModel:
        return open_tagger(folder, attention_dtype=self._attention_dtype())

    def _save_model(self, model: TaggingModel, folder: Path) -> None:
        corpus = self._ready()
        save_tagger(model, folder, corpus.labels)
        corpus.tokenizer.save(folder)
        self._run.write("labels", corpus.labels)

    def _task(self, model: TaggingModel) -> TaggerTask:
        return TaggerTask(
            model, self._ready(), optim=self._config.optim, seed=self._config.seed, hardware=self._hardware
        )

    def _score(self, model: TaggingModel) -> dict[str, Any]:
        corpus = self._ready()
        train, test = (corpus.splits[name].sentences for name in ("train", "test"))
        known = WordTags(train.words, train.tags)
        majority = [[known.majority] * len(words) for words in test.words]
        details = {"num_words": len(known), "of_unknown_words": known.unknown}
        models = [
            self._tagged(model),
            Tagged(name=WORD_TAGS, kind="baseline", tags=known.tag(test.words), details=details),
            Tagged(name=MAJORITY_TAG, kind="baseline", tags=majority, details={"tag": known.majority}),
        ]
        sums = {one.name: tag_sums(test.tags, one.tags) for one in models}
        self._run.write("rows", row_values(TAG_ACCURACY.name, sums, lengths=[len(words) for words in test.words]))
        unit = f"{test.unit}s" if test.unit == "window" else "sentences"
        return score_taggers(test.tags, models, task=self._config.task, unit=unit)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        """Return the encoder, whose outputs are one vector per token, which the laws speak of."""
        origin = f"from regard.models import load_token_classifier\nload_token_classifier({str(folder)!r}).bert"
        return load_token_classifier(folder).bert, origin

    def _tagged(self, model: TaggingModel) -> Tagged:
        task, test = self._task(model), self._ready().splits["test"]
        began = time.perf_counter()
        tags = task.predict(test)
        seconds = time.perf_counter() - began
        fine_tuned = "" if self._config.model.pretrained == "none" else ", fine-tuned"
        return Tagged(
            name=self._model_name() + fine_tuned,
            kind="model",
            tags=tags,
            details={
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "seconds": round(seconds, 2),
                "words_per_s": round(test.sentences.num_words / seconds, 1),
            },
        )

    def _ready(self) -> TaggingCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its sentences before it trains or evaluates; call prepare().")
        return self._corpus

    def _attention_dtype(self) -> torch.dtype | None:
        wanted = self._config.model.attention_dtype
        if wanted == "auto":
            return self._hardware.attention_dtype
        return torch.float32 if wanted == "float32" else None


def _tokenizer(config: TaggerConfig) -> Tokenizer | Callable[[Sequence[str]], Tokenizer]:
    """Return the tokenizer of the pretrained encoder, or what learns one from sentences."""
    folder = pretrained_folder(config.model)
    if folder is not None:
        return load_tokenizer(folder)
    assert config.model.vocab_size is not None, "the config gives a model from scratch its sizes"
    return partial(train_wordpiece, vocab_size=config.model.vocab_size, lowercase=config.model.lowercase)
