"""The job of a translator."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from regard._errors import ArgumentError
from regard.data import ParallelTexts, Tokenizer, train_subwords, word_tokenizer
from regard.evaluate import LEXICON, Lexicon, Written, row_values, score_translations
from regard.models import load_transformer
from regard.records import Checks, Run
from regard.train.job import Job
from regard.train.progress import Progress
from regard.train.translation.config import TranslatorConfig, TranslatorModel
from regard.train.translation.corpus import PairsCorpus, build_pairs
from regard.train.translation.model import (
    TranslationNetwork,
    new_translator,
    open_translator,
    save_translator,
    translator_name,
)
from regard.train.translation.task import TranslatorTask
from regard.train.translation.writing import write_texts

__all__ = ["TranslatorJob"]

_SCORES = {"subwords": ("bleu", "chrf", "bleu_lower"), "words": ("exact_match", "token_accuracy")}
"""Kind of tokens -> what is counted: nearness for texts that people write, equality for languages made of tokens."""


class TranslatorJob(Job[TranslatorConfig, TranslationNetwork]):
    """Trains an encoder–decoder from scratch on pairs of texts; see ``Job``."""

    contenders = f"the model, {LEXICON}"

    def __init__(self, config: TranslatorConfig, run: Run, progress: Progress | None = None) -> None:
        super().__init__(config, run, progress)
        self._corpus: PairsCorpus | None = None

    def _load_data(self) -> dict[str, Any]:
        self._corpus = build_pairs(
            self._config.data,
            _learn(self._config.model),
            seed=self._config.seed,
            run=self._run,
            progress=self._progress,
        )
        return self._corpus.audit

    def check(self) -> Checks | None:
        """Prove the laws of attention on a Transformer; those of a recurrent network are others."""
        return super().check() if self._config.model.architecture == "transformer" else None

    def _model_name(self) -> str:
        return translator_name(self._config.model)

    def _new_model(self) -> TranslationNetwork:
        tokenizer = self._ready().tokenizer
        ids = {"pad_id": tokenizer.pad_id, "bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
        return new_translator(self._config, vocab_size=tokenizer.vocab_size, **ids)

    def _load_model(self, folder: Path) -> TranslationNetwork:
        return open_translator(folder).to(self._hardware.device)

    def _save_model(self, model: TranslationNetwork, folder: Path) -> None:
        save_translator(model, folder)
        self._ready().tokenizer.save(folder)

    def _task(self, model: TranslationNetwork) -> TranslatorTask:
        return TranslatorTask(
            model, self._ready(), optim=self._config.optim, seed=self._config.seed, hardware=self._hardware
        )

    def _score(self, model: TranslationNetwork) -> dict[str, Any]:
        corpus, task = self._ready(), self._config
        train, test = (corpus.splits[name].pairs for name in ("train", "test"))
        ours = self._written(model.eval(), test)
        self._progress.say("Learning a lexicon to compare with …")
        lexicon = Lexicon(train.source, train.target)
        details = {"num_words": len(lexicon)}
        baseline = Written(name=LEXICON, kind="baseline", texts=lexicon.translate(test.source), details=details)
        lines = zip(test.source, test.target, ours.texts, strict=True)
        self._run.write(
            "translations", [{"source": source, "reference": ref, "written": text} for source, ref, text in lines]
        )
        metrics = _SCORES[task.model.tokens]
        if metrics[0] == "exact_match":  # of the first metrics the one that is a mean over rows
            right = {
                one.name: (
                    [a.split() == b.split() for a, b in zip(one.texts, test.target, strict=True)],
                    [1] * len(test),
                )
                for one in (ours, baseline)
            }
            lengths = [len(text.split()) for text in test.source]
            self._run.write("rows", row_values("exact_match", right, lengths=lengths))
        return score_translations(test.target, [ours, baseline], metrics=metrics, seed=task.seed)

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        origin = f"from regard.models import load_transformer\nload_transformer({str(folder)!r})"
        return load_transformer(folder), origin

    def _written(self, model: TranslationNetwork, pairs: ParallelTexts) -> Written:
        writing, data = self._config.write, self._config.data
        self._progress.start("translating", len(pairs))
        done = 0

        def tell(now: int, total: int) -> None:
            nonlocal done
            for _ in range(now - done):
                self._progress.advance()
            done = now

        began = time.perf_counter()
        found = write_texts(
            model,
            self._ready().tokenizer,
            pairs.source,
            contexts=pairs.contexts,
            writing=writing,
            max_len=data.max_len,
            context_len=data.context_len,
            progress=tell,
        )
        seconds = time.perf_counter() - began
        self._progress.stop()
        return Written(
            name=self._model_name(),
            kind="model",
            texts=found,
            details={
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "beams": writing.beams,
                "length_penalty": writing.length_penalty,
                "seconds": round(seconds, 2),
                "texts_per_s": round(len(pairs) / seconds, 1),
            },
        )

    def _ready(self) -> PairsCorpus:
        if self._corpus is None:
            raise ArgumentError("A job must prepare its pairs before it trains or evaluates; call prepare().")
        return self._corpus


def _learn(model: TranslatorModel) -> Callable[[Sequence[str]], Tokenizer]:
    """Return what makes the vocabulary; the same texts give the same one, so a run that goes on has it again."""
    return word_tokenizer if model.tokens == "words" else partial(train_subwords, vocab_size=model.vocab_size)
