"""The run folder of a training whose loop is someone else's."""

import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from regard.observe.coverage import merge_coverage
from regard.observe.view import View
from regard.records import Run, Status

__all__ = ["RunFolder", "TrainingFacts"]


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What ``run.json`` says of a training.

    Attributes:
        recipe: whose loop it is, such as ``hugging-face``.
        config: the loop's settings as plain JSON values.
        seeds: by name.
        precision: such as ``bfloat16``.
        device: where the model trains.
        packages: whose versions the result depends on.
    """

    recipe: str
    config: Mapping[str, Any]
    seeds: Mapping[str, int]
    precision: str
    device: torch.device
    packages: Iterable[str] = field(default=())

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of ``RunInfo``."""
        is_cuda = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if is_cuda else platform.processor() or platform.machine()
        found = {package: version(package) for package in ("regard", "torch", *self.packages)}
        return {
            "config": dict(self.config),
            "seeds": dict(self.seeds),
            "versions": {"python": platform.python_version(), "platform": platform.platform(), **found},
            "device": {"type": self.device.type, "name": name, "precision": self.precision},
        }


class RunFolder:
    """Opens a run folder, keeps its status true, and adds what the loop tells.

    Args:
        folder: of a new run, or of the run that goes on.
        facts: what is known before the first step.
        step: the last step that is behind us: 0 for a new training; otherwise what was recorded after it is forgotten.
        over_again: the run in ``folder`` is from an attempt of this very training that failed, and starts over.

    Raises:
        RecordError: a new training is to go into a folder that holds a run.
    """

    def __init__(self, folder: Path, facts: TrainingFacts, *, step: int, over_again: bool = False) -> None:
        goes_on = (folder / "run.json").exists() and (step > 0 or over_again)
        self.run = Run.open(folder) if goes_on else Run.create(folder, recipe=facts.recipe)
        self.run.update(status=Status.RUNNING, message=None, **facts.to_fields())
        if goes_on:
            self.run.truncate(step)
            self.run.event("resume", step=step)
        self._began = time.perf_counter(), time.process_time()
        self._before = self.run.info

    def step(self, step: int, **fields: Any) -> None:
        """Write the event of one optimizer step."""
        self.run.event("step", step=step, **fields)

    def validation(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write what an evaluation measured."""
        fields: dict[str, Any] = {"epoch": epoch, **metrics}
        self.run.event("validation", step=step, **fields)

    def finish(self, step: int, view: View) -> None:
        """Say that training came to its end after ``step``."""
        self.run.heads.finish()
        self._conclude(view, status=Status.FINISHED, message=None)
        self.run.event("finished", step=step, steps=step)

    def fail(self, step: int, view: View, error: BaseException) -> None:
        """Say that ``error`` stopped training after ``step``; asking to stop by hand is an interruption."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self._conclude(view, status=Status.INTERRUPTED, message=f"stopped by hand after step {step}")
            self.run.event("interrupted", step=step)
            return
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        self._conclude(view, status=Status.FAILED, message=f"{reason.rstrip('.')} (after step {step})")
        self.run.event("failed", step=step, level="error", reason=reason)

    def _conclude(self, view: View, **fields: Any) -> None:
        before = self._before
        kernels = dict(before.kernels)
        for name, count in view.kernels().items():
            kernels[name] = kernels.get(name, 0) + count
        self.run.update(
            kernels=kernels,
            coverage=merge_coverage(before.coverage, view.coverage()),
            wall_s=round((before.wall_s or 0.0) + time.perf_counter() - self._began[0], 2),
            cpu_s=round((before.cpu_s or 0.0) + time.process_time() - self._began[1], 2),
            **fields,
        )
