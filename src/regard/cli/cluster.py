"""The main job on the workers of a Ray cluster: the function that `torchrun` runs, started by Ray Train.

All workers train and the first one alone writes, so the run folder and the data must lie where every machine of the
cluster finds them under one path. The run folder is what remains; what Ray Train would store of its own is not used.
"""

import contextlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard._errors import ArgumentError, MissingDependencyError, TrainingError
from regard.train import JobConfig, Ranks

__all__ = ["run_on_ray"]


def run_on_ray(config: JobConfig, folder: Path, *, num_workers: int, fresh: bool = False) -> None:
    """Run every stage of ``config`` on a Ray cluster: that of RAY_ADDRESS, or one that is started on this machine.

    Args:
        config: the recipe; ``optim.accumulate`` must be a multiple of the workers.
        folder: the run folder, as for ``run_job``.
        num_workers: processes that train together, each with a GPU where the cluster has any, else with a core.
        fresh: delete the run that is in the folder first.

    Raises:
        MissingDependencyError: Ray is not installed.
        ArgumentError: fewer than two workers, more than the cluster has room for, or than a step can be dealt out to.
        TrainingError: a worker failed; it says which and why. The same command goes on from the last checkpoint.
    """
    if num_workers < 2:
        raise ArgumentError(f"--ray needs at least 2 workers, got {num_workers}; leave it out for one process.")
    Ranks(num_workers).check(config.optim.accumulate)
    # Before Ray is imported: no statistics of usage are sent, and workers stay where paths are relative to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise MissingDependencyError("--ray needs Ray Train, got none; pip install 'regard[ray]'.") from error
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False)  # what the first worker says comes through a queue, without Ray's own messages
    try:
        use_gpu = _check_room(ray.cluster_resources(), num_workers)  # type: ignore[no-untyped-call]
        # Ray wants a place of its own; nothing of ours is written there.
        with tempfile.TemporaryDirectory() as storage, _heard() as said:
            trainer = TorchTrainer(
                _work,
                train_loop_config={
                    "config": config,
                    "folder": folder.absolute(),
                    "fresh": fresh,
                    "working": Path.cwd(),
                    "said": said,
                },
                scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
                run_config=RunConfig(name=config.recipe, storage_path=storage),
            )
            _fit(trainer)
    finally:
        if started:
            ray.shutdown()


def _work(given: dict[str, Any]) -> None:
    """Do what a process of `torchrun` does; Ray Train has set up the group."""
    from regard.cli.job import run_job

    os.chdir(given["working"])
    with contextlib.redirect_stdout(_Said(given["said"])):
        run_job(given["config"], given["folder"], fresh=given["fresh"])


class _Said(io.TextIOBase):
    """A stream that puts what is written into a queue of Ray."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def write(self, text: str) -> int:
        """Send ``text``."""
        if text:
            self._queue.put(text)
        return len(text)


@contextlib.contextmanager
def _heard() -> Iterator[Any]:
    """Yield a queue whose texts are printed here as they come."""
    from ray.util.queue import Queue

    queue = Queue(actor_options={"num_cpus": 0})

    def print_all() -> None:
        while (text := queue.get()) is not None:
            sys.stdout.write(text)
            sys.stdout.flush()

    printer = threading.Thread(target=print_all, daemon=True)
    printer.start()
    try:
        yield queue
    finally:
        queue.put(None)
        printer.join()
        queue.shutdown()


def _check_room(resources: dict[str, float], num_workers: int) -> bool:
    """Return whether workers get GPUs, after looking whether there is one, or a core, for each."""
    kind = "GPU" if resources.get("GPU") else "CPU"
    if resources.get(kind, 0) < num_workers:
        raise ArgumentError(
            f"The cluster must have a {kind} for each worker, got {resources.get(kind, 0):g} for {num_workers}; "
            "ask for fewer or name a larger cluster in RAY_ADDRESS."
        )
    return kind == "GPU"


def _fit(trainer: Any) -> None:
    """Run the workers; say in one sentence what made one fail."""
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        reasons: dict[str, list[str]] = {}
        for rank, failure in sorted(failures.items()):
            reasons.setdefault(_reason(failure), []).append(str(rank))
        told = "; ".join(f"of {', '.join(ranks)}: {reason}" for reason, ranks in reasons.items())
        raise TrainingError(
            f"All workers must come to the end, got {told or error}; mend that and start the same command to go on."
        ) from error


def _reason(failure: BaseException) -> str:
    """Return what the worker itself raised, without Ray's wrapping."""
    cause: BaseException = failure
    while (inner := getattr(cause, "_base_exc", None) or cause.__cause__) is not None:
        cause = inner
    return str(cause).rstrip(".") or type(cause).__name__
