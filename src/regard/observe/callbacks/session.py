"""One training under watch, whatever loop it runs in: its steps, its losses, its recorders, its run folder."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regard._errors import NumericError
from regard.observe.callbacks.ranks import gather, is_first_rank, num_ranks
from regard.observe.callbacks.run_folder import RunFolder
from regard.observe.guard import Guard, guard
from regard.observe.guarding.finding import Finding
from regard.observe.moments import Moments
from regard.observe.recorders import HeadRecorder, Recorder
from regard.observe.view import View
from regard.observe.watch import Watch, watch

__all__ = ["Session"]

_Key = tuple[int, str, tuple[str, ...]]
_Numbers = dict[tuple[int, str], float]

_SHARE_STEPS = 100  # bounds what the ranks hold back, whatever the loop does
_FLUSH_S = 10.0


class Session:
    """Watches the steps of one training and writes what they tell.

    On several ranks every rank watches; ``share`` sums what they saw and the first rank records it, so that the files
    say what one process with all the data would have said.

    Args:
        model: what to watch.
        options: of ``watch``.
        recorders: where statistics go; flushed, not closed.
        folder: the run folder, on the first rank, if there is one.
        step: the last step that is behind us.
        guarding: whether attention is guarded as well, wherever it is watched, and what then happens.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        options: Mapping[str, Any],
        recorders: Sequence[Recorder],
        folder: RunFolder | None,
        step: int,
        guarding: str = "off",
    ) -> None:
        self._own = [] if folder is None else [HeadRecorder(folder.run.heads)]
        self._recorders: list[Recorder] = [*recorders, *self._own] if is_first_rank() else []
        self._folder = folder
        self._watch = watch(model, recorder=self, **options)
        same = {name: options[name] for name in ("layers", "adapters") if name in options}
        self._guard: Guard | None = None if guarding == "off" else guard(model, on=guarding, **same)
        self._num_ranks = num_ranks()
        self._waiting: dict[_Key, Moments] = {}
        self._pending: dict[tuple[int, str], Tensor] = {}
        self._told: dict[int, dict[str, Any]] = {}
        self._shared: set[int] = set()
        self._step = step
        self._begun = step
        self._flushed = time.monotonic()
        self._open = True
        self._finished = False

    @property
    def view(self) -> View:
        """What this rank has seen."""
        return self._watch.view

    @property
    def findings(self) -> list[Finding]:
        """What the guard has found on this rank; nothing without one."""
        return [] if self._guard is None else list(self._guard.findings)

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self._finished

    @property
    def is_open(self) -> bool:
        """Whether training goes on."""
        return self._open

    @property
    def begun(self) -> int:
        """The step that was begun last."""
        return self._begun

    @property
    def folder(self) -> RunFolder | None:
        """The run folder, if this rank writes one."""
        return self._folder

    # what the loop tells

    def begin_step(self, step: int, **told: Any) -> None:
        """Count what follows under ``step``; further batches of the same step are merged into it.

        Args:
            step: the optimizer step, the first is 1.
            **told: fields of its event.
        """
        if step == self._begun:
            return
        self._write_steps()
        self._begun = step
        self._told[step] = told
        self.view.at(step)
        if self._guard is not None:
            self._guard.at(step)

    def before_optimizer(self, optimizer: Optimizer) -> None:
        """Judge the gradients that ``optimizer`` is about to use for certain: no scaler may leave the step out.

        Raises:
            NumericError: with a guard that raises, if one is not finite.
        """
        if self._guard is not None:
            self._guard.before_optimizer(optimizer)

    def watching(self) -> "_Listening":
        """Return a context manager in which the model is watched, and guarded if that was asked for."""
        return _Listening(self._watch, self._guard)

    def add_loss(self, loss: Tensor) -> None:
        """Add the loss of one batch, scaled so that those of a step add up to the step's loss; nothing waits for it."""
        loss = loss.detach().float()
        before = self._pending.get((self._begun, "loss"))
        self._pending[self._begun, "loss"] = loss if before is None else before + loss

    def tell(self, step: int, **told: Any) -> None:
        """Add fields to the event of ``step`` until the next one begins."""
        if step in self._told:
            self._told[step].update(told)

    def tell_later(self, step: int, name: str, value: Tensor) -> None:
        """Add a number to the event of ``step`` without waiting for it."""
        self._pending[step, name] = value.detach().float()

    def end_step(self, *, share: bool) -> None:
        """Note that a step was taken. On several ranks all must agree on ``share``.

        Args:
            share: the loop logs, saves or evaluates at this step, hence what was seen is to be recorded.
        """
        self._step = self._begun
        if share or self._step % _SHARE_STEPS == 0:
            self.share()
            if time.monotonic() - self._flushed >= _FLUSH_S:
                self.flush_files()

    def end_validation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write what an evaluation measured after ``step``, behind the events of the steps before it."""
        if self._open and self._folder is not None:
            self._write_steps()
            self._folder.validation(step, epoch, metrics)

    # Recorder, for watch

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call."""
        if self._num_ranks == 1:
            self._record(step, layer, statistics, moments)
            return
        key = (step, layer, statistics)
        before = self._waiting.get(key)
        self._waiting[key] = moments if before is None else before.merge(moments)

    def flush(self) -> None:
        """Write what the recorders hold back."""
        for recorder in self._recorders:
            recorder.flush()

    def close(self) -> None:
        """Do nothing: ``finish`` and ``fail`` end a session."""

    # where it goes

    def share(self) -> None:
        """Sum what the ranks have seen since the last time, and record it. All ranks must call it."""
        numbers = self._take_numbers()
        if self._num_ranks == 1:
            self._settle([numbers])
            return
        waiting = {key: _on_cpu(moments) for key, moments in self._waiting.items()}
        self._waiting.clear()
        parts = gather((numbers, waiting))
        self._settle([part for part, _ in parts])
        total: dict[_Key, Moments] = {}
        for _, part in parts:
            for key, moments in part.items():
                total[key] = moments if key not in total else total[key].merge(moments)
        for (step, layer, statistics), moments in sorted(total.items(), key=lambda item: item[0][0]):
            self._record(step, layer, statistics, moments)

    def flush_files(self) -> None:
        """Write everything that was shared to disk."""
        self.flush()
        self._flushed = time.monotonic()

    def finish(self) -> None:
        """End the session of a training that came to its end; all ranks must call it."""
        if not self._open:
            return
        self._watch.stop()
        self.share()
        self._write_steps()
        self.flush()
        self._close_own()
        self._open = False
        self._finished = True
        if self._folder is not None:
            self._folder.finish(self._step, self.view)

    def fail(self, error: BaseException) -> None:
        """End the session of a training that raised, with what this rank alone knows: others may be gone."""
        if not self._open:
            return
        self._open = False
        _Listening(self._watch, self._guard).abandon()
        try:
            for (step, layer, statistics), moments in self._waiting.items():
                self._record(step, layer, statistics, moments)
            self._waiting.clear()
            self._settle([self._take_numbers()])
            self._shared.update(step for step, told in self._told.items() if "loss" in told)
            self._write_steps()
            self.flush()
            self._close_own()
        finally:
            if self._folder is not None:
                self._folder.fail(self._step, self.view, error)

    def _record(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        for recorder in self._recorders:
            recorder.add(step, layer, statistics, moments)

    def _take_numbers(self) -> _Numbers:
        """Return the pending numbers of each step: one transfer, however many steps."""
        if not self._pending:
            return {}
        values = torch.stack(list(self._pending.values())).tolist()
        keys = list(self._pending)
        self._pending.clear()
        return dict(zip(keys, values, strict=True))

    def _settle(self, parts: Sequence[_Numbers]) -> None:
        """Give the event of each step the mean of its numbers over the ranks; then it may be written."""
        for step, name in {key for part in parts for key in part}:
            found = [part[step, name] for part in parts if (step, name) in part]
            self.tell(step, **{name: sum(found) / len(found)})
        self._shared.update(step for step in self._told if step <= self._step)

    def _write_steps(self) -> None:
        for step in sorted(self._shared):
            told = self._told.pop(step)
            if self._folder is not None:
                self._folder.step(step, **told)
        self._shared.clear()

    def _close_own(self) -> None:
        for recorder in self._own:
            recorder.close()


class _Listening:
    """A watch and perhaps a guard, begun and ended together."""

    def __init__(self, watching: Watch, guarding: Guard | None) -> None:
        self._watch = watching
        self._guard = guarding

    def start(self) -> None:
        """Begin to listen."""
        self._watch.start()
        if self._guard is not None:
            self._guard.start()

    def stop(self) -> None:
        """End listening; gradients wait to be judged until an optimizer uses them.

        Raises:
            NumericError: with a guard that raises, if the last attention call was not finite.
        """
        self._watch.stop()
        if self._guard is not None:
            self._guard.stop(keep_gradients=True)

    def abandon(self) -> None:
        """End listening where another error is on its way already, which says more than what would be raised here."""
        with contextlib.suppress(NumericError):
            self.stop()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.abandon()


def _on_cpu(moments: Moments) -> Moments:
    tensors = {part.name: getattr(moments, part.name) for part in fields(moments)}
    return replace(moments, **{name: tensor.cpu() for name, tensor in tensors.items() if tensor is not None})
