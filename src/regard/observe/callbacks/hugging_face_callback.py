"""The callback for the Hugging Face ``Trainer``; imported only where ``transformers`` is there."""

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard._errors import ArgumentError, UnsupportedError
from regard.observe.callbacks.layer_means import LayerMeans
from regard.observe.callbacks.ranks import is_first_rank, refuse_spread_heads
from regard.observe.callbacks.run_folder import RunFolder, TrainingFacts
from regard.observe.callbacks.session import Session
from regard.observe.callbacks.settings import Settings
from regard.observe.guarding.finding import Finding
from regard.observe.view import View

__all__ = ["HuggingFaceCallback"]

_PREFIX = "eval_"
_NOT_METRICS = ("_runtime", "_per_second", "_preparation_time")


class HuggingFaceCallback(TrainerCallback):
    """Watches every training step of a ``Trainer``; made by ``regard.observe.callbacks.hugging_face``.

    The ``Trainer`` tells its callbacks when training ends well, but not when it raises. This one therefore finds the
    ``Trainer`` that calls it and lets ``training_step`` run inside ``with watch(...)``, for as long as training lasts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._means = LayerMeans()
        self._session: Session | None = None
        self._trainer: Trainer | None = None
        self._replaced: Any = None
        self._num_batches = 0
        self._logging = False
        self._has_run = False

    @property
    def view(self) -> View:
        """What was watched in the last training, on this rank.

        Raises:
            ArgumentError: no training has begun.
        """
        if self._session is None:
            raise ArgumentError("A view needs a training to look at, got none; call Trainer.train() first.")
        return self._session.view

    @property
    def findings(self) -> list[Finding]:
        """What the guard found in the last training, on this rank, oldest first; nothing without ``guard``."""
        return [] if self._session is None else self._session.findings

    # events of the Trainer

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Let an error anywhere in ``Trainer.train`` end the session."""
        trainer = self._calling_trainer()
        train = trainer.train

        @functools.wraps(train)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._failing():
                return train(*args, **kwargs)

        trainer.train = guarded  # type: ignore[method-assign]

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin a session.

        Raises:
            RecordError: the run folder holds a run and training does not resume one.
            UnsupportedError: the heads of the model are spread over processes.
        """
        self._restore()
        model = kwargs["model"]
        refuse_spread_heads(getattr(model, "tp_size", None))
        folder = self._open_folder(args, state, model) if is_first_rank() else None
        recorders = [*self._settings.recorders, *([self._means] if self._settings.log else [])]
        self._session = Session(
            model,
            options=self._settings.watching,
            recorders=recorders,
            folder=folder,
            step=state.global_step,
            guarding=self._settings.guard,
        )
        self._replace(self._calling_trainer())

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count what follows under the next step."""
        self._num_batches = 0
        rate = kwargs["optimizer"].param_groups[0]["lr"]
        self._running().begin_step(state.global_step + 1, epoch=int(state.epoch or 0) + 1, lr=float(rate))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Have the guard judge the gradients, unless a scaler will: it leaves steps out that would use bad ones."""
        if self._trainer is not None and self._trainer.accelerator.scaler is None:
            self._running().before_optimizer(kwargs["optimizer"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Share what was seen where the Trainer logs, saves or evaluates: there all ranks meet anyway.

        Raises:
            UnsupportedError: the step was taken without ``Trainer.training_step``, hence unwatched.
        """
        if not self._num_batches:
            raise UnsupportedError(
                f"A watched Trainer must train through Trainer.training_step, got {type(self._trainer).__name__}, "
                "which does not; leave the callback out and train inside `with regard.watch(model) as view:`."
            )
        self._running().end_step(share=control.should_log or control.should_save or control.should_evaluate)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the gradient norm from the Trainer's log, and add the layers' means to it if asked to."""
        logs = kwargs["logs"]
        if self._session is None or self._logging or "loss" not in logs:
            return
        if "grad_norm" in logs:
            told = {"grad_norm": logs["grad_norm"], "lr": logs.get("learning_rate")}
            self._session.tell(state.global_step, **{name: value for name, value in told.items() if value is not None})
        means = self._means.take()
        if means and self._trainer is not None:
            self._logging = True  # Trainer.log comes back here
            self._trainer.log(means)
            self._logging = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put on disk what a training that resumes from here relies on."""
        self._running().flush_files()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Share and write what was seen."""
        self._running().share()
        self._running().flush_files()

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record an evaluation within training."""
        metrics = {
            name.removeprefix(_PREFIX): float(value)
            for name, value in kwargs["metrics"].items()
            if name.startswith(_PREFIX) and isinstance(value, int | float) and not name.endswith(_NOT_METRICS)
        }
        if self._session is not None:
            self._session.end_validation(state.global_step, math.ceil(state.epoch or 0), metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the session of a training that came to its end."""
        self._restore()
        self._running().finish()

    # within

    def _running(self) -> Session:
        assert self._session is not None, "the Trainer tells that training begins before it tells of steps"
        return self._session

    def _open_folder(self, args: TrainingArguments, state: TrainerState, model: torch.nn.Module) -> RunFolder | None:
        if self._settings.run is None:
            return None
        finished = self._session is not None and self._session.finished
        facts = TrainingFacts(
            recipe="hugging-face",
            config=args.to_dict(),  # type: ignore[no-untyped-call]
            seeds={"seed": args.seed, "data_seed": args.seed if args.data_seed is None else args.data_seed},
            precision="bfloat16" if args.bf16 else "float16" if args.fp16 else str(model.dtype).removeprefix("torch."),
            device=args.device,
            packages=("transformers", "accelerate"),
        )
        folder = RunFolder(self._settings.run, facts, step=state.global_step, over_again=self._has_run and not finished)
        self._has_run = True
        return folder

    def _replace(self, trainer: Trainer) -> None:
        """Let ``training_step`` of this one trainer run while the model is watched."""
        self._trainer, self._replaced = trainer, vars(trainer).get("training_step")
        step, session = trainer.training_step, self._running()

        @functools.wraps(step)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self._failing(), session.watching():
                loss = step(*args, **kwargs)
            session.add_loss(loss)
            self._num_batches += 1
            return loss

        trainer.training_step = watched  # type: ignore[method-assign]

    def _restore(self) -> None:
        """Give the trainer its own ``training_step`` back."""
        trainer, self._trainer = self._trainer, None
        if trainer is None:
            return
        del trainer.training_step
        if self._replaced is not None:
            trainer.training_step = self._replaced  # type: ignore[method-assign]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """End the session if the body raises, whatever it raises."""
        try:
            yield
        except BaseException as error:
            self._restore()
            if self._session is not None:
                self._session.fail(error)
            raise

    def _calling_trainer(self) -> Trainer:
        """Return the trainer whose loop runs this callback, from the interpreter's own call stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, Trainer) and self in owner.callback_handler.callbacks:
                return owner
            frame = frame.f_back
        raise UnsupportedError(
            "This callback must be called by a transformers.Trainer that has it, got another caller; "
            "train inside `with regard.watch(model) as view:` instead."
        )
