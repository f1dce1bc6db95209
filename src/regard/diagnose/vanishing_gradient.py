"""Vanishing gradients: the lowest layers, or queries and keys, get almost nothing to learn from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard.diagnose.rule import Found, NotJudgedError, found
from regard.records import Evidence, Run, Severity

__all__ = ["VanishingGradient"]

_RATIO = 1e-3
_CERTAIN = 1e-6  # beyond any noise of a step: one look is enough
_PERSISTENT = 0.8
_MIN_EVENTS = 5


@dataclass(frozen=True, kw_only=True)
class _Norms:
    """Gradient norms over the second half of the run, each (events, layers); NaN where not a number."""

    steps: list[int]
    layers: list[str]
    num_events: int  # of the whole run
    norms: dict[str, npt.NDArray[np.float64]]


class VanishingGradient:
    """Judges the ``gradients`` events of the second half of a run.

    Two ratios, each below 1e-3 in at least four of five events: the lowest layer's gradient over the highest's, and
    within a layer that of queries and keys over that of values and output. The literature gives no accepted number;
    three orders of magnitude lie far outside what a healthy run of any depth shows. A ratio below 1e-6 in all of fewer
    events, be it one, is a finding too. Layers whose gradient is exactly 0
    in every event are frozen or detached: they are named, and left out of the ratio.
    """

    id = "vanishing_gradient"
    title = "Vanishing gradient"
    severity = Severity.WARNING
    states = (
        "The lowest layer's gradient norm is above 1/1000 of the highest's, and so are queries and keys against values."
    )
    cause = (
        "The gradient shrinks on its way down: post-norm residuals without warm-up, rank collapse of the tokens, or a "
        "softmax that is saturated so that queries and keys starve."
    )
    remedy = (
        "Use pre-norm or scaled residuals and a longer warm-up for whole layers; for queries and keys alone, see "
        "saturated_softmax and bound or scale down the scores."
    )
    reference = "Noci et al. 2022, arXiv:2206.03126; Xiong et al. 2020, arXiv:2002.04745"

    def judge(self, run: Run) -> list[Found]:
        """Return what starves: the lower layers, queries and keys, or layers that get no gradient at all."""
        norms = _second_half(run)
        if norms.num_events >= _MIN_EVENTS:
            return [*self._depth(norms), *self._scores(norms), *self._frozen(norms)]
        certain = self._depth(norms)
        if not certain:
            raise NotJudgedError(f"gradients need at least {_MIN_EVENTS} recorded events, got {norms.num_events}")
        return certain

    def _depth(self, norms: _Norms) -> list[Found]:
        everything = norms.norms["all"]
        moving = np.flatnonzero(~(everything == 0).all(axis=0))
        if len(moving) < 2:
            return []
        low, high = int(moving[0]), int(moving[-1])
        ratio = _ratio(everything[:, low], everything[:, high])
        share = float((ratio < (_RATIO if norms.num_events >= _MIN_EVENTS else _CERTAIN)).mean())
        if share < _PERSISTENT:
            return []
        lowest, highest = norms.layers[low], norms.layers[high]
        value = float(np.nanmedian(ratio))
        note = f"median norm of {lowest} over that of {highest}; below the threshold in {share:.0%} of the events"
        return [
            found(
                self,
                severity=Severity.WARNING,
                title=f"The lowest layer's gradient is {value:.1e} of the highest's",
                strength=share,
                where=[lowest],
                evidence=[_evidence("all", value, norms.steps[0], lowest, note)],
            )
        ]

    def _scores(self, norms: _Norms) -> list[Found]:
        ratio = _ratio(norms.norms["qk"], norms.norms["vo"])
        shares = (ratio < _RATIO).mean(axis=0)
        starved = [int(index) for index in np.flatnonzero(shares >= _PERSISTENT)]
        if not starved:
            return []
        medians = {index: float(np.nanmedian(ratio[:, index])) for index in starved}
        starved.sort(key=medians.__getitem__)
        note = "median norm of queries and keys over that of values and output"
        return [
            found(
                self,
                severity=Severity.WARNING,
                title=f"Queries and keys of {len(starved)} of {len(norms.layers)} layers get almost no gradient",
                strength=len(starved) / len(norms.layers),
                where=[norms.layers[index] for index in starved],
                evidence=[
                    _evidence("qk/vo", medians[index], norms.steps[0], norms.layers[index], note) for index in starved
                ],
            )
        ]

    def _frozen(self, norms: _Norms) -> list[Found]:
        frozen = [norms.layers[i] for i in np.flatnonzero((norms.norms["all"] == 0).all(axis=0))]
        if not frozen:
            return []
        return [
            found(
                self,
                severity=Severity.INFO if len(frozen) < len(norms.layers) else Severity.WARNING,
                title=f"{len(frozen)} of {len(norms.layers)} layers get no gradient at all",
                strength=len(frozen) / len(norms.layers),
                where=frozen,
                evidence=[_evidence("all", 0.0, norms.steps[0], layer, "exactly 0 in every event") for layer in frozen],
                cause="Their parameters are frozen, or their output is detached from the loss.",
                remedy=(
                    "Nothing if they are meant to be frozen; else look for detach(), no_grad() or requires_grad=False."
                ),
            )
        ]


def _second_half(run: Run) -> _Norms:
    events = list(run.events("gradients"))
    if not events:
        raise NotJudgedError("no gradients event was recorded")
    num_events = len(events)
    events = events[num_events // 2 :] if num_events >= _MIN_EVENTS else events
    layers = [entry["layer"] for entry in events[0]["layers"]]
    if not layers:
        raise NotJudgedError("gradients events name no layer; the model has no attention with separate projections")
    norms = {
        name: np.array([[_number(entry[name]) for entry in event["layers"]] for event in events], dtype=np.float64)
        for name in ("qk", "vo", "all")
    }
    steps = [event["step"] for event in events]
    return _Norms(steps=steps, layers=layers, num_events=num_events, norms=norms)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _ratio(above: npt.NDArray[np.float64], below: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Divide where the divisor is not 0; NaN elsewhere, which is below no threshold."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _evidence(statistic: str, value: float, step: int, layer: str, note: str) -> Evidence:
    return Evidence(
        source="events",
        statistic=f"gradients {statistic}",
        value=value,
        threshold=_RATIO if statistic != "all" or value else None,
        step=step,
        layer=layer,
        note=note,
    )
