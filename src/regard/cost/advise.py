"""From a profile to what to do, and from what was done to what it brought."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.cost.parts import Part
from regard.cost.profile import Profile
from regard.cost.remedies import Advice, Remedy, remedies
from regard.cost.remedies.machine import num_cores
from regard.cost.timing import Timing, in_turn, ratio
from regard.cost.workload import Step, Workload

__all__ = ["Outcome", "advice", "notes", "thread_curve", "try_remedy"]

_LEAST = 0.05
"""Share of the time below which nothing is advised: what cannot win it is not worth a person's day."""
_MOST_OF = 0.5


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a remedy brought.

    Attributes:
        name: of the remedy.
        before: the step as it was.
        after: the step with the remedy, measured in turn with the other.
        ratio: median over the rounds of after / before; below 1 it is faster.
        difference: largest difference of what the model returned, as a share of the largest number; None where training
            makes the two not comparable.
    """

    name: str
    before: Timing
    after: Timing
    ratio: float
    difference: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "ratio": self.ratio,
            "difference": self.difference,
        }


def advice(profile: Profile) -> list[Advice]:
    """Return the remedies that ``profile`` calls for, those that can win most first.

    None is given that could not save 5 % of the time even if what it touches took no time at all: where the attention
    core is a tenth of the work, nothing that makes it faster matters much.
    """
    found = []
    for remedy in remedies().values():
        why, at_most = remedy.why(profile), _at_most(remedy, profile)
        if why is not None and at_most >= _LEAST:
            found.append(Advice(name=remedy.name, title=remedy.title, why=why, changes=remedy.changes, at_most=at_most))
    return sorted(found, key=lambda one: -one.at_most)


def notes(profile: Profile) -> list[str]:
    """Return what a person should know that no remedy changes by itself."""
    found = []
    core, copies = profile.time_share(Part.CORE), profile.time_share(Part.COPIES)
    if core > _MOST_OF:
        found.append(
            f"The attention core takes {core:.0%} of the time and grows with the square of the length: a window or "
            "another pattern (regard.functional.patterns) makes it linear, and is another model."
        )
    if copies > 0.1:
        found.append(f"Copies take {copies:.0%} of the time: look for .contiguous(), .to() and cat within the layers.")
    if profile.explained < _MOST_OF:
        found.append(
            f"Operators explain {profile.explained:.0%} of the time, the rest is Python: the tensors are small; larger "
            "batches cost little more."
        )
    if profile.account.uncounted:
        names = ", ".join(sorted(profile.account.uncounted))
        found.append(f"Not counted, as there is no formula: {names}.")
    return found


def try_remedy(profile: Profile, name: str, *, rounds: int = 7, budget_s: float = 20.0) -> Outcome:
    """Measure the step of ``profile`` with and without a remedy, in turn; afterwards the model is as it was.

    Args:
        profile: of the step.
        name: of the remedy.
        rounds: how often both are run at most.
        budget_s: no round begins after this time, but three are always taken.

    Raises:
        ArgumentError: no remedy has this name.
        UnsupportedError: it cannot be applied to this model.
    """
    every = remedies()
    if name not in every:
        raise ArgumentError(f"A remedy must be one of {', '.join(every)}, got {name!r}.")
    remedy = every[name]
    workload = profile.workload.own_copy() if profile.workload.trains else profile.workload
    results: dict[str, Sequence[Tensor]] = {}
    steps: dict[int, Step] = {}

    def before() -> None:
        step = steps.setdefault(0, Step(workload))
        results["before"] = step()

    def after() -> None:
        with remedy.applied(workload, profile) as changed:
            step = steps.get(1)
            if step is None or step.workload != changed:
                step = steps[1] = Step(changed)
            results["after"] = step()

    with torch.random.fork_rng(devices=[]):
        timings = in_turn({"before": before, "after": after}, rounds=rounds, budget_s=budget_s)
    return Outcome(
        name=name,
        before=timings["before"],
        after=timings["after"],
        ratio=ratio(timings["after"], timings["before"]),
        difference=None if workload.trains else _difference(results["after"], results["before"]),
    )


def thread_curve(workload: Workload, *, rounds: int = 7, budget_s: float = 20.0) -> dict[int, Timing]:
    """Measure a step with 1, 2, 4, … threads up to one for each core, in turn; the number is put back afterwards."""
    own = workload.own_copy() if workload.trains else workload
    step, before = Step(own), torch.get_num_threads()
    numbers = sorted({*(1 << power for power in range(num_cores().bit_length())), num_cores()})
    numbers = [number for number in numbers if number <= num_cores()]

    def with_threads(number: int) -> Callable[[], object]:
        def run() -> object:
            torch.set_num_threads(number)
            return step()

        return run

    try:
        with torch.random.fork_rng(devices=[]):
            timings = in_turn(
                {str(number): with_threads(number) for number in numbers}, rounds=rounds, budget_s=budget_s
            )
    finally:
        torch.set_num_threads(before)
    return {number: timings[str(number)] for number in numbers}


def _at_most(remedy: Remedy, profile: Profile) -> float:
    if not remedy.touches:
        return 1.0
    return min(1.0, profile.time_share(*remedy.touches))


def _difference(after: Sequence[Tensor], before: Sequence[Tensor]) -> float | None:
    pairs = [(a.double(), b.double()) for a, b in zip(after, before, strict=False) if a.shape == b.shape]
    if not pairs:
        return None
    largest = max(float(b.abs().max()) for _, b in pairs) or 1.0
    return max(float((a - b).abs().max()) for a, b in pairs) / largest
