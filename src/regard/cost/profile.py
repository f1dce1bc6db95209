"""Where the time of a model goes, measured operator by operator beside the model as it runs by itself."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from regard.cost.account import Account
from regard.cost.count import refuse_compiled, tensors_of
from regard.cost.ledger import Ledger
from regard.cost.parts import Part
from regard.cost.timing import Timing, in_turn
from regard.cost.workload import Step, Workload

__all__ = ["BETWEEN", "Profile", "Row", "profile"]

BETWEEN = "between operators"
"""What the whole takes beyond its operators: Python, and choosing kernels."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A part of a step.

    Attributes:
        part: its name; ``BETWEEN`` for what no operator takes.
        seconds: that it takes.
        time_share: of the whole step.
        flops: operations in products.
        flops_share: of all of them.
        num_operations: operators that ran.
    """

    part: str
    seconds: float
    time_share: float
    flops: int
    flops_share: float
    num_operations: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the time of a step goes.

    Attributes:
        workload: what was measured.
        account: every operator, with the median of its times.
        whole: the step as it runs by itself, measured in turn with the profiled one.
        threads: of PyTorch.
    """

    workload: Workload
    account: Account
    whole: Timing
    threads: int

    @property
    def rows(self) -> list[Row]:
        """The parts, those that take longest first; together they take at least what the whole takes."""
        parts, whole, flops = self.account.by_part(), self.whole.median, self.account.flops or 1
        found = [
            Row(
                part=str(part),
                seconds=share.seconds,
                time_share=share.seconds / whole,
                flops=share.flops,
                flops_share=share.flops / flops,
                num_operations=share.num_operations,
            )
            for part, share in parts.items()
        ]
        rest = whole - sum(row.seconds for row in found)
        if rest > 0:
            row = Row(part=BETWEEN, seconds=rest, time_share=rest / whole, flops=0, flops_share=0.0, num_operations=0)
            found.append(row)
        return sorted(found, key=lambda row: -row.seconds)

    @property
    def explained(self) -> float:
        """What the operators take together, as a share of the whole: 1 if the profile is true and nothing lies between.

        Above 1 the operators ran slower while they were listened to.
        """
        return sum(share.seconds for share in self.account.by_part().values()) / self.whole.median

    @property
    def tokens_per_s(self) -> float:
        """Tokens that a step handles in a second."""
        return self.workload.num_tokens / self.whole.median

    def time_share(self, *parts: Part | str) -> float:
        """Return the share of the time that ``parts`` take together."""
        wanted = {str(part) for part in parts}
        return sum((row.time_share for row in self.rows if row.part in wanted), 0.0)

    def verdict(self) -> str:
        """Say in a sentence or two where the time goes, and what it means for the attention core."""
        first = self.rows[0]
        said = f"{_called(first.part)} takes most: {first.time_share:.0%} of the time"
        said += f", {first.flops_share:.0%} of the operations." if first.flops else "."
        core = next((row for row in self.rows if row.part == Part.CORE), None)
        if core is None or core is first:
            return said
        said += f" The attention core takes {core.time_share:.0%} of the time, {core.flops_share:.0%} of the operations"
        from_length = self._core_leads_from()
        return said + (f"; it would do half of them at {from_length:,} tokens." if from_length else ".")

    def _core_leads_from(self) -> int | None:
        """Return the length at which the core would do half of the operations, by growing with its square."""
        core = self.account.by_part().get(Part.CORE)
        rest = self.account.flops - (core.flops if core else 0)
        if core is None or not core.flops or core.flops >= rest:
            return None
        return round(self.workload.length * rest / core.flops)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        workload = self.workload
        return {
            "schema_version": 1,
            "model": workload.name,
            "batch": workload.batch,
            "length": workload.length,
            "trains": workload.trains,
            "precision": workload.precision,
            "threads": self.threads,
            "whole": self.whole.to_dict(),
            "tokens_per_s": self.tokens_per_s,
            "explained": self.explained,
            "parts": [
                {
                    "part": row.part,
                    "seconds": row.seconds,
                    "time_share": row.time_share,
                    "flops": row.flops,
                    "flops_share": row.flops_share,
                    "num_operations": row.num_operations,
                }
                for row in self.rows
            ],
            "kernels": self.account.kernels,
            "uncounted": dict(self.account.uncounted),
            "verdict": self.verdict(),
        }


def profile(workload: Workload, *, rounds: int = 7, budget_s: float = 20.0) -> Profile:
    """Measure where the time of a step of ``workload`` goes.

    The step runs by itself and listened to in turn. An operator's time is the median over the rounds; the time of the
    whole is that of the step by itself, so what listening costs is in no figure. Operators are timed on the thread that
    calls them, which is where a CPU computes; on another device each is waited for, which takes away its overlap.

    Args:
        workload: what to measure; a model that trains is copied first, and the copy is trained.
        rounds: how often both are run at most.
        budget_s: no round begins after this time, but three are always taken.

    Raises:
        UnsupportedError: the model is compiled, so that nobody hears of its operators.

    Example:
        >>> from torch import nn
        >>> from regard.cost import call_of
        >>> layer = nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True)
        >>> found = profile(Workload(model=layer, inputs=call_of(layer), length=16), rounds=3)
        >>> found.account.kernels
        {'fast path': 1}
    """
    refuse_compiled(workload.model)
    measured = workload.own_copy() if workload.trains else workload
    step = Step(measured)
    ledgers: list[Ledger] = []
    given = tensors_of(list(step.arguments))

    def listened() -> None:
        ledger = Ledger(measured.model, timed=True)
        ledger.give(given)
        with ledger:
            returned = step()
        ledger.settle(returned)
        ledgers.append(ledger)

    with torch.random.fork_rng(devices=[]):
        timings = in_turn({"alone": step, "listened": listened}, rounds=rounds, budget_s=budget_s)
    taken = ledgers[-len(timings["listened"].samples) :]
    counted = _account(measured, step)
    return Profile(
        workload=workload,
        account=_with_times(counted, [one.account(counted.num_parameters) for one in taken]),
        whole=timings["alone"],
        threads=torch.get_num_threads(),
    )


def _account(workload: Workload, step: Step) -> Account:
    """Count one more step, and read what masks hide."""
    ledger = Ledger(workload.model, reads_masks=True)
    ledger.give(tensors_of(list(step.arguments)))
    with torch.random.fork_rng(devices=[]), ledger:
        returned = step()
    ledger.settle(returned)
    return ledger.account(sum(parameter.numel() for parameter in workload.model.parameters()))


def _with_times(counted: Account, timed: Sequence[Account]) -> Account:
    """Return ``counted`` with the median time of each operator; with those of one step where steps were not alike."""
    names = [one.operator for one in counted.operations]
    alike = [one for one in timed if [other.operator for other in one.operations] == names]
    if not alike:
        return sorted(timed, key=lambda one: sum(op.seconds for op in one.operations))[len(timed) // 2]
    seconds = zip(*([op.seconds for op in one.operations] for one in alike), strict=True)
    operations = [
        replace(operation, seconds=statistics.median(taken))
        for operation, taken in zip(counted.operations, seconds, strict=True)
    ]
    return replace(counted, operations=operations)


def _called(part: str) -> str:
    return _SUBJECTS.get(part, part[0].upper() + part[1:])


_SUBJECTS: Mapping[str, str] = {Part.CORE: "The attention core", Part.OUTPUT: "The output layer", Part.LOSS: "The loss"}
