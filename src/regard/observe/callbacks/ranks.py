"""Bring together what the processes of one training saw."""

from typing import TypeVar

import torch.distributed as dist

from regard._errors import UnsupportedError

__all__ = ["gather", "is_first_rank", "num_ranks", "refuse_spread_heads"]

_T = TypeVar("_T")


def num_ranks() -> int:
    """Return how many processes train together; 1 where ``torch.distributed`` is not running."""
    return dist.get_world_size() if _running() else 1


def is_first_rank() -> bool:
    """Return whether this process writes the files: rank 0, or the only one."""
    return not _running() or dist.get_rank() == 0


def gather(part: _T) -> list[_T]:
    """Return what every rank gave, in their order, on the first rank, and nothing on the others. All must call it.

    Args:
        part: what this rank gives, pickled on its way; tensors in it must be on the CPU.
    """
    if num_ranks() == 1:
        return [part]
    parts: list[_T] | None = [part] * num_ranks() if is_first_rank() else None
    dist.gather_object(part, parts, dst=0)
    return parts or []


def refuse_spread_heads(num_parts: object) -> None:
    """Refuse a model whose heads are spread over ``num_parts`` ranks: head 0 of one rank is not head 0 of another.

    Raises:
        UnsupportedError: there is more than one part.
    """
    if isinstance(num_parts, int) and num_parts > 1:
        raise UnsupportedError(
            f"Ranks can be summed where each holds every head, got a model spread over {num_parts} of them by tensor "
            "parallelism; train inside `with regard.watch(model) as view:` and read each rank's view."
        )


def _running() -> bool:
    return dist.is_available() and dist.is_initialized()
