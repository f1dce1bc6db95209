"""Several processes that train one model together, as ``torchrun`` starts them.

A step's batches are dealt out to the ranks, and their gradients are summed behind the backward pass. What a step
computes does not depend on the number of ranks: ``optim.accumulate`` says how many batches make a step in all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from regard._errors import ArgumentError
from regard.observe import Moments
from regard.observe.recorders import Recorder
from regard.observe.recorders.waiting import Waiting

__all__ = ["Ranks", "SharedRecorder", "join_ranks"]

_STEPS = 1 << 20  # apart from each other lie the seeds of two ranks


class Ranks:
    """The processes of the default group of ``torch.distributed``; one where that is not running.

    Args:
        size: how many they will be, where they are not running yet.
    """

    def __init__(self, size: int = 1) -> None:
        running = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if running else 0
        self.size = dist.get_world_size() if running else size

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def check(self, batches_per_step: int) -> None:
        """Refuse a step that cannot be dealt out evenly.

        Raises:
            ArgumentError: ``batches_per_step`` is not a multiple of the number of ranks.
        """
        if batches_per_step % self.size:
            raise ArgumentError(
                f"optim.accumulate, the batches of a step, must be a multiple of the {self.size} ranks, got "
                f"{batches_per_step}; set it to {self.size} and divide optim.batch_size by as much for the same step."
            )

    def share(self, batches: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """Return the batches of a step that this rank runs; none where the last step of an epoch has too few."""
        return batches[self.rank :: self.size]

    def seed(self, seed: int, step: int) -> None:
        """Let random numbers follow from seed, rank and step, so that a resumed run has the same without a state."""
        if self.size > 1:
            torch.manual_seed((seed * self.size + self.rank) * _STEPS + step)

    def sum(self, *numbers: float) -> list[float]:
        """Return the sums of ``numbers`` over the ranks, in float64. All ranks must call it."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def any(self, *questions: bool) -> list[bool]:
        """Return whether a rank answers yes, for each question. All ranks must call it."""
        return [count > 0 for count in self.sum(*map(float, questions))]

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients over the ranks, in one message for each type. All ranks must call it."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for dtype in sorted({parameter.dtype for parameter in parameters}, key=str):
            grads = [p.grad for p in parameters if p.dtype == dtype and p.grad is not None]
            flat = torch.cat([grad.flatten() for grad in grads])
            dist.all_reduce(flat)
            for grad, summed in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
                grad.copy_(summed.view_as(grad))

    def from_first(self, content: Any) -> Any:
        """Return what the first rank gave. All ranks must call it."""
        if self.size == 1:
            return content
        box = [content]
        dist.broadcast_object_list(box, src=0, device=_device())
        return box[0]


class SharedRecorder:
    """Brings what all ranks saw to the recorder of the first, when it is flushed.

    Args:
        recorder: gets the sums, on the first rank.
        ranks: who took part.
    """

    def __init__(self, recorder: Recorder, ranks: Ranks) -> None:
        self._recorder = recorder
        self._ranks = ranks
        self._waiting = Waiting()

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Keep the summary of one call until the ranks meet."""
        if self._ranks.size == 1:
            self._recorder.add(step, layer, statistics, moments)
        else:
            self._waiting.add(step, layer, statistics, moments)

    def flush(self) -> None:
        """Sum up what the ranks saw and write it. All ranks must call it."""
        if self._ranks.size > 1:
            seen = [(one.step, one.layer, one.statistics, one.moments.to_dict()) for one in self._waiting.take()]
            parts: list[Any] | None = [None] * self._ranks.size if self._ranks.is_first else None
            dist.gather_object(seen, parts, dst=0)
            merged = Waiting()
            for step, layer, statistics, moments in (one for part in parts or [] for one in part):
                merged.add(step, layer, statistics, Moments.from_dict(moments))
            for found in merged.take():
                self._recorder.add(found.step, found.layer, found.statistics, found.moments)
        self._recorder.flush()

    def close(self) -> None:
        """Close the recorder; what the ranks have not shared since the last flush is not recorded."""
        self._recorder.close()


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Join the group that ``torchrun`` describes in the environment, for the time of the context; else be alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield Ranks()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks()
    finally:
        dist.destroy_process_group()


def _device() -> torch.device:
    """Return where the group's messages lie."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
