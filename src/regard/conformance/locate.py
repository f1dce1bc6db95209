"""Where a difference begins: the first attention call, and the head, whose output differs between two runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.conformance.trace import Heard, Trace

__all__ = ["Place", "first_difference", "named"]


@dataclass(frozen=True)
class Place:
    """Where it begins: a layer, those of its heads that differ, and the row that does most.

    ``query`` counts within what was compared.
    """

    layer: str
    heads: tuple[int, ...]
    num_heads: int
    query: int

    @property
    def head(self) -> int:
        """The first head that differs."""
        return self.heads[0]

    def doing(self, verb: str) -> str:
        """Return what its heads do, as "layer, head 3 leaks" or "layer, all 4 heads leak"."""
        return f"{self} {verb}{'s' if len(self.heads) == 1 else ''}"

    def __str__(self) -> str:
        return f"{self.layer}, {named(self.heads, self.num_heads)}"


def named(heads: Sequence[int], num_heads: int) -> str:
    """Return some of a layer's heads in words: "head 3", "heads 0 and 2", "all 4 heads"."""
    if len(heads) == num_heads > 1:
        return f"all {num_heads} heads"
    if len(heads) == 1:
        return f"head {heads[0]}"
    return f"heads {', '.join(map(str, heads[:-1]))} and {heads[-1]}"


def first_difference(
    one: Trace,
    other: Trace,
    pick: Callable[[Tensor], Tensor],
    pick_other: Callable[[Tensor], Tensor] | None = None,
    *,
    relative: float = 1e-7,
    wanted: Callable[[Heard], bool] = lambda heard: True,
) -> Place | None:
    """Return the first call whose heads' outputs differ where they must not, or None.

    Args:
        one: a run.
        other: another run of the same calls in the same order.
        pick: from (batch, heads, q_len, value_dim) to what is compared, (…, heads, rows, value_dim).
        pick_other: the same for the other run, by default the same.
        relative: difference that counts, in units of the largest output of the call.
        wanted: which calls to look at.
    """
    mine = [heard for heard in one.calls if wanted(heard)]
    theirs = [heard for heard in other.calls if wanted(heard)]
    for heard, twin in zip(mine, theirs, strict=False):
        if heard.call.output is None or twin.call.output is None or heard.layer != twin.layer:
            continue
        first, second = pick(heard.call.output), (pick_other or pick)(twin.call.output)
        if first.shape != second.shape:
            continue
        largest = max(float(first.abs().max()), torch.finfo(torch.float32).tiny) if first.numel() else 1.0
        difference = (first - second).abs().nan_to_num(nan=torch.inf)
        if difference.numel() and float(difference.max()) > relative * largest:
            by_row = difference.amax(-1).flatten(0, -3).amax(0)
            heads = tuple((by_row.amax(1) > relative * largest).nonzero()[:, 0].tolist())
            query = int(by_row[heads[0]].argmax())
            return Place(heard.layer, heads, by_row.shape[0], query)
    return None
