"""How long a step will take, from two short steps and the operations of both."""

from dataclasses import dataclass, replace
from typing import Any

from regard.cost.account import Account
from regard.cost.parts import Part
from regard.cost.timing import Timing, in_turn
from regard.cost.workload import Step, Workload

__all__ = ["Estimate", "Rates", "measured_rates", "short_lengths"]

_SHORT_FLOPS = 1e11
_SHORTEST, _LONGEST = 32, 4096


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a unit of work takes on this machine.

    Attributes:
        core: seconds for an operation of the attention core.
        rest: seconds for an operation of everything else, with the elementwise work that comes with it.
        lengths: of the two steps that were measured.
        timings: of the two.
    """

    core: float
    rest: float
    lengths: tuple[int, int]
    timings: tuple[Timing, Timing]

    def of(self, account: Account) -> "Estimate":
        """Return how long a step takes that does the work of ``account``."""
        core, rest = _work(account)
        return Estimate(seconds=core * self.core + rest * self.rest, lengths=self.lengths)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A time that was not measured.

    Attributes:
        seconds: of one step.
        lengths: of the steps that were measured in order to say so.
    """

    seconds: float
    lengths: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"seconds": self.seconds, "measured_lengths": list(self.lengths)}


def measured_rates(workload: Workload, accounts: "tuple[Account, Account]", lengths: tuple[int, int]) -> Rates:
    """Run two short steps of ``workload`` in turn and return what their work takes.

    Args:
        workload: the model is copied if it trains.
        accounts: the operations at both lengths.
        lengths: two that take a moment.
    """
    own = workload.own_copy() if workload.trains else workload
    short, long = (Step(replace(own, length=length, batch=1)) for length in lengths)
    timings = in_turn({"short": short, "long": long}, rounds=5, budget_s=10.0)
    first, second = (timings[name].median for name in ("short", "long"))
    (core_a, rest_a), (core_b, rest_b) = (_work(one) for one in accounts)
    determinant = core_a * rest_b - core_b * rest_a
    core = rest = -1.0
    if determinant:
        core = (first * rest_b - second * rest_a) / determinant
        rest = (core_a * second - core_b * first) / determinant
    if core < 0 or rest < 0:  # too little of one of them to be told apart: both at the rate of the whole
        core = rest = second / (core_b + rest_b)
    return Rates(core=core, rest=rest, lengths=lengths, timings=(timings["short"], timings["long"]))


def short_lengths(account: Account, length: int) -> tuple[int, int]:
    """Return two lengths whose steps take a moment: the longer of about 10¹¹ operations, the shorter a quarter of it.

    Args:
        account: of one sequence of ``length``.
        length: in tokens.
    """
    core, rest = _work(account)
    longer = min(length, _LONGEST)
    while longer > 2 * _SHORTEST and core * (longer / length) ** 2 + rest * longer / length > _SHORT_FLOPS:
        longer //= 2
    return max(1, longer // 4), max(2, longer)


def _work(account: Account) -> tuple[float, float]:
    core = account.by_part().get(Part.CORE)
    flops = core.flops if core else 0
    return float(flops), float(account.flops - flops)
