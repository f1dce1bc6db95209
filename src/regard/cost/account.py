"""What a model's work comes to: by part, by module, by phase."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regard.cost.attention_work import AttentionWork
from regard.cost.footprint import Holding
from regard.cost.operation import Operation
from regard.cost.parts import Part, Phase

__all__ = ["Account", "Share"]


@dataclass(kw_only=True)
class Share:
    """The sum of some operations; fields as in ``Operation``."""

    flops: int = 0
    needed: int = 0
    numbers: int = 0
    moved_bytes: int = 0
    seconds: float = 0.0
    num_operations: int = 0

    def add(self, operation: Operation) -> None:
        """Add one operation."""
        self.flops += operation.flops
        self.needed += operation.needed
        self.numbers += operation.numbers
        self.moved_bytes += operation.moved_bytes
        self.seconds += operation.seconds
        self.num_operations += 1


@dataclass(frozen=True, kw_only=True)
class Account:
    """What was counted.

    Attributes:
        operations: every operator that ran, in order.
        attention: every attention call of the forward pass, in order.
        uncounted: operators that may do products and have no formula -> how often they ran; empty if all were counted.
        num_parameters: of the model.
        peak_bytes: the largest sum of all tensors in use at a time, weights included.
        at_peak: what they were held for.
    """

    operations: Sequence[Operation]
    attention: Sequence[AttentionWork] = ()
    uncounted: Mapping[str, int] = field(default_factory=dict)
    num_parameters: int = 0
    peak_bytes: int = 0
    at_peak: Mapping[Holding, int] = field(default_factory=dict)

    @property
    def flops(self) -> int:
        """Operations in matrix products, as the kernels compute them."""
        return sum(one.flops for one in self.operations)

    @property
    def needed(self) -> int:
        """Operations in matrix products that the mathematics needs: without the pairs that masks hide."""
        return sum(one.needed for one in self.operations)

    def by_part(self, phase: Phase | None = None) -> dict[Part, Share]:
        """Return the parts that did something, those with most operations first, in one phase or all."""
        return _summed(self._in(phase), lambda one: one.part or Part.SUMS)

    def by_module(self, depth: int | None = None, phase: Phase | None = None) -> dict[str, Share]:
        """Return modules by dotted name, cut after ``depth`` names; "" for what runs in the model itself."""
        return _summed(self._in(phase), lambda one: ".".join(one.module.split(".")[:depth]))

    def share(self, part: Part | str) -> float:
        """Return which share of the operations in products ``part`` has, 0 to 1."""
        total = self.flops
        return self.by_part().get(Part(part), Share()).flops / total if total else 0.0

    @property
    def kernels(self) -> dict[str, int]:
        """Kernels that computed attention -> how many calls."""
        return dict(Counter(work.kernel for work in self.attention))

    @property
    def kv_bytes(self) -> int:
        """Keys and values of all attention calls: what a cache of this length holds."""
        return sum(work.kv_bytes for work in self.attention)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "flops": self.flops,
            "needed_flops": self.needed,
            "num_parameters": self.num_parameters,
            "peak_bytes": self.peak_bytes,
            "at_peak": {str(holding): size for holding, size in self.at_peak.items() if size},
            "parts": {
                str(part): {
                    "flops": share.flops,
                    "needed_flops": share.needed,
                    "numbers": share.numbers,
                    "moved_bytes": share.moved_bytes,
                    "num_operations": share.num_operations,
                }
                for part, share in self.by_part().items()
            },
            "kernels": self.kernels,
            "uncounted": dict(self.uncounted),
        }

    def __str__(self) -> str:
        """Return a table of the parts."""
        total = self.flops or 1
        width = max((len(part) for part in self.by_part()), default=0)
        lines = [f"{'':{width}}  {'MFLOP':>14}  {'share':>6}  {'needed':>14}  {'numbers':>12}"]
        for part, share in self.by_part().items():
            lines.append(
                f"{part:{width}}  {share.flops / 1e6:14,.2f}  {share.flops / total:6.1%}  {share.needed / 1e6:14,.2f}"
                f"  {share.numbers / 1e6:10,.1f} M"
            )
        lines.append(f"{'all':{width}}  {self.flops / 1e6:14,.2f}  {'':6}  {self.needed / 1e6:14,.2f}")
        lines += [f"not counted: {name}, {times} times" for name, times in self.uncounted.items()]
        return "\n".join(lines)

    def _in(self, phase: Phase | None) -> Iterable[Operation]:
        return (one for one in self.operations if phase is None or one.phase == phase)


def _summed(operations: Iterable[Operation], key: Callable[[Operation], Any]) -> dict[Any, Share]:
    found: dict[Any, Share] = {}
    for one in operations:
        found.setdefault(key(one), Share()).add(one)
    return dict(sorted(found.items(), key=lambda item: (-item[1].flops, -item[1].numbers)))
