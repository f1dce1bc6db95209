"""Merge what the processes of one training have seen."""

from collections.abc import Mapping

from torch import Tensor, distributed

from regard._errors import UnsupportedError
from regard.observe.moments import Moments

__all__ = ["gathered"]

Totals = Mapping[tuple[str, str], Moments]


def gathered(totals: Totals) -> dict[tuple[str, str], Moments]:
    """Return the sums over all processes of the default group, the same in each.

    Raises:
        UnsupportedError: ``torch.distributed`` is not running.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise UnsupportedError(
            "Gathering over processes needs torch.distributed, which is not running; "
            "call torch.distributed.init_process_group first, or read View.table()."
        )
    parts: list[Mapping[tuple[str, str], Mapping[str, Tensor]] | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, {where: moments.to_dict() for where, moments in totals.items()})
    merged: dict[tuple[str, str], Moments] = {}
    for part in parts:
        for where, tensors in (part or {}).items():
            moments = Moments.from_dict(tensors)
            merged[where] = merged[where].merge(moments) if where in merged else moments
    return merged
