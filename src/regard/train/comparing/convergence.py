"""How soon each variant of a comparison reaches a target: steps, tokens, operations and seconds, with intervals.

A target is reached at the first look at the validation set that is as good; between two looks nothing is known, so the
figure is late by up to the distance of looks. A seed that never reaches it has no figure, and then no mean is told.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regard._errors import ArgumentError
from regard.cost import Curve, draw_curves, one_above_the_other
from regard.evaluate import mean_interval, versus
from regard.records import Interval
from regard.train.comparing.outcome import Look, Outcome

__all__ = [
    "SLOWER",
    "VALIDATED",
    "Target",
    "convergence",
    "convergence_sentences",
    "convergence_table",
    "draw_convergence",
]

SLOWER = 1.2
"""Steps to the target over those before, from which a comparison is called slower."""

VALIDATED = {
    "text classification": ("loss", "accuracy", "macro_f1"),
    "token tagging": ("loss", "accuracy", "macro_f1"),
    "language modelling": ("loss", "perplexity"),
    "forecasting": ("loss", "mae"),
    "translation": ("loss", "perplexity", "token_accuracy"),
    "sequence classification": ("loss", "accuracy", "macro_f1"),
    "sequence regression": ("loss", "mae"),
}
"""Task -> the metrics that its jobs measure on the validation set while they train."""

_LOWER = ("loss", "perplexity", "mae")
_AMOUNTS = ("steps", "tokens", "flops", "seconds")
_NAMES = {"steps": "Steps", "tokens": "Tokens", "flops": "FLOPs", "seconds": "Seconds"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A value of a metric of the validation set, which a training should reach."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read ``"accuracy=0.9"``.

        Raises:
            ArgumentError: not a name and a finite number.
        """
        name, equals, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not equals or not math.isfinite(value):
            raise ArgumentError(
                f"A target must be a metric of the validation set and a number, as in accuracy=0.9 or loss=1.6; got "
                f"{text!r}."
            )
        return cls(metric=name, value=value)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric falls as a model learns."""
        return self.metric in _LOWER

    def check(self, task: str) -> None:
        """Refuse a metric that ``task`` does not validate, before anything is trained.

        Raises:
            ArgumentError: another metric.
        """
        if self.metric not in VALIDATED[task]:
            raise ArgumentError(
                f"The target of {task} must be one of {', '.join(VALIDATED[task])}, which are validated while it "
                f"trains, got {self.metric}."
            )

    def is_met(self, look: Look) -> bool:
        """Whether ``look`` is as good, or better."""
        value = look.metrics[self.metric]
        return value <= self.value if self.lower_is_better else value >= self.value


def convergence(
    by_model: Mapping[str, Sequence[Outcome]], target: Target, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is known of the way to ``target``.

    Args:
        by_model: the runs of each variant; the first variant is held against the others.
        target: what is to be reached.
        before: ``convergence`` of an earlier comparison, to be held against this one; see ``check_before``.
    """
    models = {model: _reached(runs, target) for model, runs in by_model.items()}
    names = list(models)
    earlier = {} if before is None else {name: before["models"][name] for name in names if name in before["models"]}
    return {
        "metric": target.metric,
        "target": target.value,
        "lower_is_better": target.lower_is_better,
        "models": models,
        "curves": {model: _curve(runs, target.metric) for model, runs in by_model.items()},
        "against": [_ratios(names[0], models[names[0]], other, models[other]) for other in names[1:]],
        "before": [_held_against(name, models[name], old) for name, old in earlier.items()],
    }


def check_before(before: Mapping[str, Any], target: Target, models: Sequence[str]) -> None:
    """Refuse an earlier comparison that nothing can be held against, before anything is trained.

    Args:
        before: ``convergence`` of the earlier comparison.
        target: of the new one.
        models: names of its variants.

    Raises:
        ArgumentError: another target, or no model of the new one.
    """
    if (before["metric"], before["target"]) != (target.metric, target.value):
        raise ArgumentError(
            f"The earlier comparison must have the same target, {target.metric}={target.value:g}, got "
            f"{before['metric']}={before['target']:g}."
        )
    if not set(models) & set(before["models"]):
        raise ArgumentError(
            f"The earlier comparison must share a model with this one, {', '.join(models)}; it has "
            f"{', '.join(before['models'])}."
        )


def _reached(runs: Sequence[Outcome], target: Target) -> dict[str, Any]:
    """Return when each seed reached the target, and the means if all did."""
    each = []
    for one in runs:
        look = next((look for look in one.looks if target.is_met(look)), None)
        each.append(None if look is None else _amounts(one, look))
    distances = np.diff([0, *(look.step for look in runs[0].looks)])
    found = {
        "seeds": len(runs),
        "num_reached": sum(one is not None for one in each),
        "steps_between_looks": int(distances.max(initial=0)),
        "trained_steps": max(one.looks[-1].step for one in runs),
        "each": each,
    }
    whole = [one for one in each if one is not None]
    if len(whole) < len(each):
        return found
    return found | {name: mean_interval([one[name] for one in whole], low=0.0).model_dump() for name in _AMOUNTS}


def _amounts(one: Outcome, look: Look) -> dict[str, int | float]:
    share = look.tokens / one.tokens
    return {"steps": look.step, "tokens": look.tokens, "flops": one.flops * share, "seconds": look.seconds}


def _curve(runs: Sequence[Outcome], metric: str) -> dict[str, list[int | float]]:
    """Return the metric over the looks of the first seed: mean, and its interval over seeds."""
    steps = [look.step for look in runs[0].looks]
    flops = [_amounts(runs[0], look)["flops"] for look in runs[0].looks]
    values = np.stack(
        [np.interp(steps, [k.step for k in one.looks], [k.metrics[metric] for k in one.looks]) for one in runs]
    )
    intervals = [mean_interval(column.tolist()) for column in values.T]
    ends = {name: [float(getattr(one, name)) for one in intervals] for name in ("value", "low", "high")}
    return {"steps": [float(step) for step in steps], "flops": flops, **ends}


def _logs(one: Mapping[str, Any], amount: str) -> list[float]:
    return [math.log(each[amount]) for each in one["each"]]


def _ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any], amount: str) -> dict[str, float] | None:
    """Return how many times as much the first takes, with its interval; None where a seed did not arrive."""
    if any(one["num_reached"] < one["seeds"] for one in (ours, theirs)):
        return None
    logs: Interval = versus(_logs(ours, amount), _logs(theirs, amount))
    return {name: math.exp(getattr(logs, name)) for name in ("value", "low", "high")}


def _ratios(model: str, ours: Mapping[str, Any], other: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": model, "other": other, "ratios": {name: _ratio(ours, theirs, name) for name in _AMOUNTS}}


def _held_against(model: str, now: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Say whether a variant takes longer than it did; one that arrived before and no longer does is slower."""
    ratio = _ratio(now, old, "steps")
    lost = now["num_reached"] / now["seeds"] < old["num_reached"] / old["seeds"]
    return {"model": model, "ratio": ratio, "slower": lost if ratio is None else ratio["value"] > SLOWER}


def convergence_table(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the table of how soon each variant arrives."""
    headings = ["model", "seeds that arrive", *(f"{_NAMES[name]} to it" for name in _AMOUNTS), "looked every"]
    rows = []
    for model, one in content["models"].items():
        cells = [_interval(one[name], name) if name in one else "–" for name in _AMOUNTS]
        rows.append([model, f"{one['num_reached']} of {one['seeds']}", *cells, f"{one['steps_between_looks']} steps"])
    return headings, rows


def convergence_sentences(content: Mapping[str, Any]) -> Iterator[str]:
    """Say who arrives sooner, who does not arrive, and who takes longer than before."""
    goal = f"{content['metric']} {content['target']:g}"
    for model, one in content["models"].items():
        if one["num_reached"] < one["seeds"]:
            yield (
                f"{model} reached {goal} in {one['num_reached']} of {one['seeds']} seeds within "
                f"{one['trained_steps']:,} steps; no mean is told of some."
            )
    for pair in content["against"]:
        told = [
            f"{_NAMES[name].lower() if name != 'flops' else 'FLOPs'} {_times(ratio)}"
            for name, ratio in pair["ratios"].items()
            if ratio is not None
        ]
        if told:
            yield f"To {goal}, {pair['model']} over {pair['other']}: {', '.join(told)}."
    for one in content["before"]:
        told_of = "it no longer arrives as often" if one["ratio"] is None else f"steps {_times(one['ratio'])}"
        if one["ratio"] is None and not one["slower"]:
            told_of = "not all seeds arrived then and now, so steps cannot be held against each other"
        verdict = f"slower than before by more than {SLOWER - 1:.0%}" if one["slower"] else "not slower than before"
        yield f"To {goal}, {one['model']} now over before: {told_of}: {verdict}."


def draw_convergence(content: Mapping[str, Any], *, title: str) -> str:
    """Return an SVG: the metric over steps, and over operations, each with a band for its interval.

    Both axes are logarithmic; what is a share of right answers is drawn as the share of wrong ones.
    """
    lower, goal, name = content["lower_is_better"], content["target"], content["metric"]
    label = f"validation {name}" if lower else f"1 − validation {name}"
    drawings = []
    for over, x_label in (("steps", "steps"), ("flops", "FLOPs, matrix products")):
        curves = []
        for model, curve in content["curves"].items():
            y, low, high = (
                curve[end] if lower else [1.0 - value for value in curve[end]]
                for end in (("value", "low", "high") if lower else ("value", "high", "low"))
            )
            curves.append(Curve(name=model, x=curve[over], y=y, low=low, high=high))
        reach = [value for curve in content["curves"].values() for value in curve[over]]
        level = goal if lower else 1.0 - goal
        curves.append(Curve(name=f"target {goal:g}", x=[min(reach), max(reach)], y=[level, level], dashed=True))
        drawings.append(
            draw_curves(
                curves, title=f"{title} over {'FLOPs' if over == 'flops' else over}", y_label=label, x_label=x_label
            )
        )
    return one_above_the_other(drawings, title=title)


def _interval(one: Mapping[str, Any], name: str) -> str:
    return f"{_told(one['value'], name)} ({_told(one['low'], name)}–{_told(one['high'], name)})"


def _told(value: int | float, name: str) -> str:
    if name == "flops":
        return f"{value:.2e}"
    return f"{value:.1f}" if name == "seconds" and value < 100 else f"{value:,.0f}"


def _times(ratio: Mapping[str, float]) -> str:
    return f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
