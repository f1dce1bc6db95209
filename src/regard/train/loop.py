"""The training loop: thin, watched at every step, exactly resumable."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from regard._errors import NumericError, TrainingError
from regard.observe import Guard, View, guard, merge_coverage, watch
from regard.records import Run, Status
from regard.train.average import WeightAverage
from regard.train.checkpoint import read_checkpoint, restore_checkpoint, save_checkpoint
from regard.train.config import OptimConfig, WatchConfig
from regard.train.gradients import GradientProbe
from regard.train.interruption import Interruption
from regard.train.progress import Progress
from regard.train.ranks import Ranks, SharedRecorder
from regard.train.recording import RunRecorders
from regard.train.schedule import learning_rate_factor

__all__ = ["BatchLoss", "Fit", "Task"]


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """Mean loss of a batch, and what it is a mean over.

    Attributes:
        loss: a scalar.
        num_tokens: real tokens that the model read.
        num_cells: tokens including padding.
        weight: how many things ``loss`` is the mean over, such as target tokens, for batches that make one step
            together: the step's loss is then the mean over the things of all.
    """

    loss: Tensor
    num_tokens: int
    num_cells: int
    weight: int = 1


@runtime_checkable
class Task(Protocol):
    """What the loop needs to know of a task; ``batches`` is a pure function of the epoch, so that resuming is exact."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        ...

    def batches(self, epoch: int) -> Sequence[Sequence[int]]:
        """Return the batches of ``epoch``, counted from 0; every epoch has the same number of them."""
        ...

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Run the model on ``batch``."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's parameter groups with their peak learning rates."""
        ...

    def validate(self) -> dict[str, float]:
        """Measure the model on the validation set."""
        ...


class Fit:
    """One training of ``task``, writing events, statistics and checkpoints into ``run``.

    Args:
        task: model, batches and loss.
        run: the run folder; a checkpoint in it is resumed.
        optim: the optimizer's settings.
        watching: what to record of attention.
        checkpoint_every_s: seconds between checkpoints.
        progress: told what happens.
        seed: of the random numbers of each rank, where several train together.

    Raises:
        ArgumentError: the batches of a step cannot be dealt out evenly to the ranks.
    """

    def __init__(
        self,
        task: Task,
        *,
        run: Run,
        optim: OptimConfig,
        watching: WatchConfig,
        checkpoint_every_s: float,
        progress: Progress,
        seed: int = 0,
    ) -> None:
        self._task = task
        self._ranks = Ranks()
        self._ranks.check(optim.accumulate)
        self._seed = seed
        self._run = run
        self._optim = optim
        self._every_s = checkpoint_every_s
        self._progress = progress
        self._interval = watching.interval
        groups = task.parameter_groups()
        self._peaks = [group["lr"] for group in groups]
        self._optimizer = torch.optim.AdamW(groups, betas=optim.betas, fused=True)
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        self._average = WeightAverage(self._parameters, optim.ema) if optim.ema else None
        self._gradients = GradientProbe(task.model)
        self._recorders = RunRecorders(run, watching)
        self._recorder = SharedRecorder(self._recorders, self._ranks)
        every = dict.fromkeys(watching.every_step, 1) | dict.fromkeys(watching.sometimes, watching.interval)
        self._watch = watch(
            task.model,
            list(every),
            rows=watching.rows,
            every=every,
            quantiles_every=watching.interval,
            recorder=self._recorder,
        )
        self._guard: Guard | None = None if watching.guard == "off" else guard(task.model, on=watching.guard)
        self._per_epoch = -(-len(task.batches(0)) // optim.accumulate)
        self._total = self._per_epoch * optim.epochs
        self._step = 0
        self._state: dict[str, Any] = {"wall_s": 0.0, "cpu_s": 0.0, "tokens": 0, "watch_s": 0.0, "kernels": {}}
        self._state["coverage"] = []
        self._coverage_before: list[dict[str, Any]] = []

    @property
    def view(self) -> View:
        """What ``watch`` has seen since this process began to train."""
        return self._watch.view

    def run(self) -> dict[str, Any]:
        """Train to the end, from the checkpoint if there is one; then the model holds the average, if one is kept.

        Returns:
            Totals over all processes that worked on this run: ``steps``, ``tokens``, ``kernels``, ``coverage`` and the
            seconds ``wall_s``, ``cpu_s`` and ``watch_s``.

        Raises:
            TrainingError: the loss is no longer a finite number.
            NumericError: with ``watch.guard`` of ``raise``, attention is no longer finite.
            KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint of the last whole step was written.
            RecordError: the checkpoint cannot be read.
            MissingDependencyError: a recorder that was asked for needs a package that is not installed.
        """
        self._resume()
        self._recorders.begin(self._step)
        self._progress.start("training", self._total, self._step)
        clock = _Clock(self._state)
        try:
            with Interruption() as interruption:
                if self._stopped_before_a_look():
                    self._validate()
                while self._step < self._total:
                    self._until_a_look(interruption, clock)
                    self._validate()
                    self._checkpoint(clock)
        except NumericError as error:
            self._run.update(status=Status.FAILED, message=str(error))
            raise
        finally:
            self._progress.stop()
            self._recorder.close()
        if self._average is not None:
            self._average.swap()
        return {"steps": self._total, **self._state}

    def _resume(self) -> None:
        """Go on from the checkpoint of the first rank, if there is one."""
        exists = self._ranks.is_first and self._checkpoint_path.exists()
        content = self._ranks.from_first(read_checkpoint(self._checkpoint_path) if exists else None)
        if content is None:
            self._run.truncate(0)
            return
        self._step, self._state = restore_checkpoint(content, model=self._task.model, optimizer=self._optimizer)
        self._coverage_before = self._state["coverage"]
        if self._average is not None:
            self._average.restore(self._state.pop("average"))
        self._run.truncate(self._step)
        self._run.event("resume", step=self._step)
        self._progress.say(f"Going on from the checkpoint at step {self._step} of {self._total}.")

    def _until_a_look(self, interruption: Interruption, clock: "_Clock") -> None:
        """Train up to the next look at the validation set, which `watch` does not see."""
        epoch, done = divmod(self._step, self._per_epoch)
        every = self._optim.validate_every or self._per_epoch
        end = min(self._per_epoch, done - done % every + every)
        batches = self._task.batches(epoch)
        self._task.model.train()
        with self._watch as view, self._guard or nullcontext() as guarding:
            for position in range(done, end):
                view.at(self._step + 1)
                if guarding is not None:
                    guarding.at(self._step + 1)
                first = position * self._optim.accumulate
                self._train_step(epoch, batches[first : first + self._optim.accumulate])
                late = clock.since_checkpoint() >= self._every_s
                interrupted, late = self._ranks.any(interruption.requested, late)
                if interrupted:
                    self._interrupt(clock)
                if late and position + 1 < end:
                    self._checkpoint(clock)

    def _train_step(self, epoch: int, batches: Sequence[Sequence[int]]) -> None:
        began = time.perf_counter()
        step = self._step + 1
        self._set_learning_rate(step)
        self._ranks.seed(self._seed, step)
        result = self._backward(batches)
        if (step - 1) % self._interval == 0:
            self._run.event("gradients", step=step, layers=self._gradients.read())
        norm = self._clip()
        loss = float(result.loss)
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._diverged(step, epoch, loss, norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update(step)
        self._step = step
        self._state["tokens"] += result.num_tokens
        speed = result.num_tokens / (time.perf_counter() - began)
        self._run.event(
            "step",
            step=step,
            epoch=epoch + 1,
            loss=loss,
            lr=self._optimizer.param_groups[0]["lr"],
            grad_norm=norm,
            tokens=result.num_tokens,
            tokens_per_s=round(speed, 1),
            padding_share=round(1.0 - result.num_tokens / result.num_cells, 6),
        )
        self._progress.advance(loss=loss, tokens=float(result.num_tokens))

    def _set_learning_rate(self, step: int) -> None:
        warmup = round(self._total * self._optim.warmup_share)
        factor = learning_rate_factor(self._optim.schedule, step, total=self._total, warmup=warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def _backward(self, batches: Sequence[Sequence[int]]) -> BatchLoss:
        """Leave the gradient of the mean over all ``batches``, those of other ranks too, in the parameters."""
        if len(batches) == self._ranks.size == 1:
            result = self._task.loss(batches[0])
            result.loss.backward()
            return replace(result, loss=result.loss.detach())
        sums = np.zeros(4)
        for batch in self._ranks.share(batches):
            result = self._task.loss(batch)
            total = result.loss * result.weight
            total.backward()
            sums += [float(total.detach()), result.num_tokens, result.num_cells, result.weight]
        loss, tokens, cells, weight = self._ranks.sum(*sums)
        self._ranks.sum_gradients(self._parameters)
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(weight)
        mean = torch.tensor(loss / weight)
        return BatchLoss(loss=mean, num_tokens=int(tokens), num_cells=int(cells), weight=int(weight))

    def _clip(self) -> float:
        """Return the norm of the whole gradient and cut it to ``clip_norm``; a smaller one is not even touched."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = get_total_norm(gradients)
        if norm > self._optim.clip_norm:
            clip_grads_with_norm_(self._parameters, self._optim.clip_norm, norm)
        return float(norm)

    def _diverged(self, step: int, epoch: int, loss: float, norm: float) -> None:
        self._recorder.flush()
        self._run.event("step", step=step, epoch=epoch + 1, level="error", loss=loss, grad_norm=norm)
        self._run.update(status=Status.FAILED, message=f"loss {loss}, gradient norm {norm} at step {step}")
        raise TrainingError(
            f"Loss and gradient must be finite numbers, got loss {loss} and gradient norm {norm} at step {step}; "
            f"see `regard diagnose {self._run.folder}`, then lower optim.lr or raise optim.warmup_share."
        )

    def _validate(self) -> None:
        if not self._ranks.is_first:
            return
        self._task.model.eval()
        with self._average.in_place() if self._average is not None else nullcontext():
            metrics = self._task.validate()
        epoch, rest = divmod(self._step, self._per_epoch)
        epoch += rest > 0
        fields: dict[str, Any] = {"epoch": epoch, **metrics}
        self._run.event("validation", step=self._step, **fields)
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        where = f", step {self._step:,} of {self._total:,}" if self._optim.validate_every else ""
        self._progress.say(f"Epoch {epoch} of {self._optim.epochs}{where}: validation {told}")

    def _stopped_before_a_look(self) -> bool:
        """Whether the process before this one stopped after the last step before a look, and did not look."""
        done = self._step % self._per_epoch
        if self._step == 0 or done % (self._optim.validate_every or self._per_epoch):
            return False
        return all(event["step"] != self._step for event in self._run.events("validation"))

    def _interrupt(self, clock: "_Clock") -> None:
        self._checkpoint(clock)
        self._run.event("interrupted", step=self._step)
        self._run.update(status=Status.INTERRUPTED, message=f"stopped by hand after step {self._step}")
        raise KeyboardInterrupt

    def _checkpoint(self, clock: "_Clock") -> None:
        self._recorder.flush()
        clock.tick()
        self._count_calls()
        if not self._ranks.is_first:
            return
        save_checkpoint(
            self._checkpoint_path,
            step=self._step,
            model=self._task.model,
            optimizer=self._optimizer,
            state=self._state if self._average is None else {**self._state, "average": self._average.state()},
        )
        self._run.event("checkpoint", step=self._step)

    def _count_calls(self) -> None:
        self._state["watch_s"] += self.view.take_seconds()
        self._state["coverage"] = merge_coverage(self._coverage_before, self.view.coverage())
        for name, count in self.view.take_kernels().items():
            self._state["kernels"][name] = self._state["kernels"].get(name, 0) + count

    @property
    def _checkpoint_path(self) -> Path:
        return self._run.folder / "checkpoint.pt"


class _Clock:
    """Adds the time since the last tick to a run's totals, so that they add up over interruptions."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def since_checkpoint(self) -> float:
        return time.perf_counter() - self._wall

    def tick(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self._state["wall_s"] += wall - self._wall
        self._state["cpu_s"] += cpu - self._cpu
        self._wall, self._cpu = wall, cpu
