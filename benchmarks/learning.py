"""Train a small BERT from scratch once, and look at its validation accuracy at fixed steps, outside of the clock."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from measure import Sample, Stopwatch
from small_bert import SmallBert
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertForSequenceClassification as TransformersBert
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import Trainer as TransformersTrainer

from regard.cli.process import keep_freed_memory
from regard.evaluate import accuracy, f1, macro, tally
from regard.models import BertForSequenceClassification
from regard.records import Run
from regard.train import Fit, Hardware, Silent, choose_hardware
from regard.train.classification.corpus import Corpus, EncodedSplit
from regard.train.classification.task import ClassifierTask

__all__ = ["GOAL", "OF_REGARD", "OF_TRANSFORMERS", "Learnt", "learn"]

GOAL = 0.95
"""Validation accuracy whose first crossing counts."""
_LOOKS = 8  # at the validation rows, an epoch

OF_TRANSFORMERS = ("Trainer, defaults", "Trainer, our settings")
OF_REGARD = ("regard, PyTorch's kernels", "regard, native kernels")


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """One training.

    Attributes:
        seconds: of all steps.
        epochs: how far it came; less than the recipe's where it was stopped.
        waiting: share of them in which its threads waited for a core; None where the system does not say.
        curve: training seconds and validation accuracy, at every look and after the last step.
        validation_accuracy: after the last step.
        test_accuracy: after the last step.
        test_macro_f1: after the last step.
        kernels: of attention, as ``watch`` saw them; empty where nothing was watched.
    """

    seconds: float
    epochs: float
    waiting: float | None
    curve: list[tuple[float, float]]
    validation_accuracy: float
    test_accuracy: float
    test_macro_f1: float
    kernels: list[str]

    @property
    def crossing_s(self) -> float | None:
        """Training seconds at the first look that found ``GOAL`` or more; None if none did."""
        return next((seconds for seconds, found in self.curve if found >= GOAL), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Learnt":
        """Return what ``to_dict`` gave."""
        curve = [(float(seconds), float(found)) for seconds, found in values["curve"]]
        return cls(**{**values, "curve": curve})


def learn(peer: str, folder: Path, *, quick: bool, limit_s: float = math.inf) -> Learnt:
    """Train ``peer``, one of ``OF_TRANSFORMERS`` and ``OF_REGARD``, in this process.

    Which kernels ours takes is not decided here: ``auto`` goes by the file that REGARD_REGION names.

    Args:
        peer: which one.
        folder: what it writes goes below it.
        quick: tiny sizes.
        limit_s: training seconds after which it is stopped at the next look.
    """
    small = SmallBert(folder, quick=quick)
    if peer in OF_REGARD:
        return _ours(small, folder, limit_s)
    settings = _our_settings(small) if peer == OF_TRANSFORMERS[1] else {}
    return _theirs(small, folder, limit_s=limit_s, **settings)


class Clock:
    """Seconds of training, and the curve that it was stopped for.

    Args:
        steps: of an epoch.
        judge: returns the validation accuracy of the model as it is.
    """

    def __init__(self, steps: int, judge: Callable[[], float]) -> None:
        self._steps = steps
        self._every = max(1, steps // _LOOKS)
        self.judge = judge
        self._step = 0
        self._stopwatch = Stopwatch()
        self._samples: list[Sample] = []
        self.curve: list[tuple[float, float]] = []

    def start(self) -> None:
        """Begin, before the first batch."""
        self._stopwatch.start()

    def step(self) -> None:
        """Count a step; at every look the time stands still."""
        self._step += 1
        if self._step % self._every == 0:
            with self.paused():
                self.curve.append((self.seconds, self.judge()))
                print(
                    f"{self.epochs:.2f} epochs, {self.seconds:.1f} s: validation accuracy {self.curve[-1][1]:.4f}",
                    file=sys.stderr,
                    flush=True,
                )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take what happens inside out of the time."""
        self.stop()
        yield
        self._stopwatch.start()

    def stop(self) -> None:
        """Add what has passed since the start or the last pause."""
        self._stopwatch.stop()
        self._samples.append(self._stopwatch.sample)

    @property
    def epochs(self) -> float:
        """How far training has come."""
        return self._step / self._steps

    @property
    def seconds(self) -> float:
        """Time so far, up to the last pause."""
        return sum(sample.seconds for sample in self._samples)

    @property
    def waiting(self) -> float | None:
        """Share of the time in which threads waited for a core."""
        parts = [sample.seconds * sample.waiting for sample in self._samples if sample.waiting is not None]
        return sum(parts) / self.seconds if len(parts) == len(self._samples) else None


def _ours(small: SmallBert, folder: Path, limit_s: float) -> Learnt:
    """Train as ``regard train from-scratch`` does: watched, with records and checkpoints."""
    keep_freed_memory()
    hardware = choose_hardware(small.config.device, small.config.precision)
    twin = _task(small, small.ours(attention_dtype=hardware.attention_dtype), hardware)
    model = small.ours(attention_dtype=hardware.attention_dtype)
    task = _task(small, model, hardware)

    def judge() -> float:
        # The twin is looked at instead of the model, whose every call would be watched.
        twin.model.load_state_dict(model.state_dict())
        return twin.validate()["accuracy"]

    clock = task.clock = Clock(len(task.batches(0)), judge)
    fit = Fit(
        task,
        run=Run.create(folder / "ours", recipe=small.config.recipe),
        optim=small.config.optim,
        watching=small.config.watch,
        checkpoint_every_s=small.config.checkpoint_every_s,
        progress=_Steps(clock, limit_s),
    )
    with suppress(_LimitReachedError):
        fit.run()
    clock.stop()
    kernels = sorted({name for entry in fit.view.coverage() for name in entry.kernels})
    return _learnt(clock, twin, small.corpus, kernels)


class _Task(ClassifierTask):
    """The task of a classifier whose validation, at the end of an epoch, stops the clock if there is one."""

    clock: Clock | None = None

    def validate(self) -> dict[str, float]:
        """Return loss, accuracy and macro F1 on the validation set."""
        with nullcontext() if self.clock is None else self.clock.paused():
            return super().validate()


class _LimitReachedError(Exception):
    """Leaves the loop early."""


class _Steps(Silent):
    """Tells the clock of each step, and leaves the loop at the limit."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Start the time."""
        self._clock.start()

    def advance(self, amount: int = 1, **values: float) -> None:
        """Count the step."""
        self._clock.step()
        if self._clock.seconds >= self._limit_s:
            raise _LimitReachedError


def _theirs(
    small: SmallBert, folder: Path, *, limit_s: float, changes: Mapping[str, Any] | None = None, **arguments: Any
) -> Learnt:
    """Train with the Trainer: ``arguments`` are its own, ``changes`` those of the model's config."""
    model = small.theirs(**(changes or {}))
    hardware = choose_hardware(small.config.device, small.config.precision)
    task = _task(small, cast(BertForSequenceClassification, _Logits(model)), hardware)
    given = TrainingArguments(
        str(folder / "theirs"),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=small.config.seed,
        # The defaults are three epochs, as the recipe's; fewer with --quick.
        num_train_epochs=small.config.optim.epochs,
        **arguments,
    )
    split = small.corpus.splits["train"]
    clock = Clock(-(-len(split.ids) // given.per_device_train_batch_size), lambda: task.validate()["accuracy"])
    small.corpus.tokenizer.save(folder)
    trainer = TransformersTrainer(
        model=model,
        args=given,
        train_dataset=_Rows(split),
        # With a tokenizer it pads each batch to its longest document (DataCollatorWithPadding).
        processing_class=PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"),
        callbacks=[_Callback(clock, limit_s)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return _learnt(clock, task, small.corpus, [])


def _our_settings(small: SmallBert) -> dict[str, Any]:
    """Return the recipe's settings as the Trainer's: what is left are random batches and its loop."""
    optim = small.config.optim
    precision = choose_hardware(small.config.device, small.config.precision).precision
    return {
        "per_device_train_batch_size": optim.batch_size,
        "learning_rate": optim.lr,
        "weight_decay": optim.weight_decay,
        "warmup_steps": optim.warmup_share,  # a share where it is below 1
        "max_grad_norm": optim.clip_norm,
        "bf16": precision == torch.bfloat16,
        "changes": {"attention_probs_dropout_prob": small.config.model.attention_dropout_p},
    }


class _Logits(nn.Module):
    """Transformers' classifier as ``ClassifierTask`` calls a model."""

    def __init__(self, model: TransformersBert) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        logits: Tensor = self.model(input_ids, attention_mask=attention_mask).logits
        return logits


class _Rows(Dataset[dict[str, Any]]):
    """Documents as the Trainer takes them."""

    def __init__(self, split: EncodedSplit) -> None:
        self._split = split

    def __len__(self) -> int:
        return len(self._split.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self._split.ids[index]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "label": self._split.targets[index]}


class _Callback(TrainerCallback):
    """Runs the clock from before the Trainer's first batch to the end of its last step."""

    def __init__(self, clock: Clock, limit_s: float) -> None:
        self._clock = clock
        self._limit_s = limit_s

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the time."""
        self._clock.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the step; after the last one the time stands."""
        self._clock.step()
        control.should_training_stop |= self._clock.seconds >= self._limit_s
        if control.should_training_stop or state.global_step == state.max_steps:
            self._clock.stop()


def _task(small: SmallBert, model: BertForSequenceClassification, hardware: Hardware) -> _Task:
    return _Task(
        model,
        small.corpus,
        optim=small.config.optim,
        seed=small.config.seed,
        hardware=hardware,
        pad_id=small.pad_id,
    )


def _learnt(clock: Clock, task: ClassifierTask, corpus: Corpus, kernels: list[str]) -> Learnt:
    """Return what came of it; ``task`` holds the model that the clock's judge looks at."""
    found = clock.judge()
    test = corpus.splits["test"]
    predicted = task.predict(test).argmax(axis=1)
    counts = tally(np.asarray(test.targets), predicted, num_classes=len(corpus.labels))
    return Learnt(
        seconds=clock.seconds,
        epochs=clock.epochs,
        waiting=clock.waiting,
        curve=[*clock.curve, (clock.seconds, found)],
        validation_accuracy=found,
        test_accuracy=float(accuracy(counts)),
        test_macro_f1=float(macro(f1(counts))),
        kernels=kernels,
    )
