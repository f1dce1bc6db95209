"""What may be said of a comparison: every figure with its interval over seeds and rows, and who wins where."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError
from regard.evaluate import block_counts, mean_interval, versus
from regard.records import Interval
from regard.train.comparing.convergence import Target, convergence
from regard.train.comparing.outcome import Outcome, Rows

__all__ = ["SCHEMA_VERSION", "Measure", "summarise"]

SCHEMA_VERSION = 1
_REGIONS = 3
_SHARES = ("accuracy", "macro_f1", "macro_precision", "macro_recall", "auc_roc", "exact_match", "token_accuracy")

Measure = Mapping[str, Any]
"""Plain values: name, title, whether lower is better, and for each model an interval."""

_COSTS = (
    ("cpu_seconds", "Processor time, s"),
    ("seconds", "Time, s"),
    ("tokens_per_s", "Tokens/s"),
    ("peak_bytes", "Peak memory, MB"),
)


def summarise(
    outcomes: Sequence[Outcome],
    *,
    baselines: bool = True,
    varied: bool = False,
    target: Target | None = None,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of ``comparison.json``.

    Args:
        outcomes: of every model with every seed, of one task on one split; the first model is the one that others are
            held against.
        baselines: whether the baselines that every run scores take part in the table.
        varied: whether the models are one architecture at several values of a setting, which may change its size.
        target: what the validation metric should reach, to tell how soon it does.
        before: ``convergence`` of an earlier comparison with that target, which this one is held against.

    Raises:
        ArgumentError: models whose parameter counts differ by more than 5 %, or runs of unlike tasks or splits.
    """
    by_model: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_model.setdefault(one.model, []).append(one)
    first = outcomes[0]
    _check(by_model, first, varied=varied)
    names = first.metrics["metric_order"]
    qualities = [_quality(name, by_model, first, baselines) for name in names]
    costs = [cost for field, title in _COSTS if (cost := _cost(field, title, by_model)) is not None]
    told = {} if target is None else {"convergence": convergence(by_model, target, before)}
    return told | {
        "schema_version": SCHEMA_VERSION,
        "task": first.metrics["task"],
        "unit": first.metrics.get("unit", "documents"),
        "num_rows": first.metrics["num_rows"],
        "models": list(by_model),
        "seeds": [one.seed for one in by_model[first.model]],
        "runs": [{"model": one.model, "seed": one.seed, "folder": one.folder} for one in outcomes],
        "parameters": {model: found[0].parameters for model, found in by_model.items()},
        "training_flops": {model: float(np.mean([one.flops for one in found])) for model, found in by_model.items()},
        "row_flops": {model: float(np.mean([one.row_flops for one in found])) for model, found in by_model.items()},
        "quality": qualities,
        "cost": costs,
        "against": [_against(other, by_model, first) for other in list(by_model)[1:]],
        "regions": [region for other in list(by_model)[1:] for region in _regions(other, by_model, first)],
        "method": (
            "95 % intervals: Student's t over seeds, with the variance of the test rows added, which all runs share; "
            "differences are Welch's over seeds and paired over rows. Times, speed and FLOPs (of matrix products) are "
            "those of training; memory is that of the whole process"
        ),
    }


def _check(by_model: Mapping[str, Sequence[Outcome]], first: Outcome, *, varied: bool) -> None:
    sizes = {model: found[0].parameters for model, found in by_model.items()}
    wanted = sizes[first.model]
    unlike = {model: size for model, size in sizes.items() if abs(size / wanted - 1) > 0.05}
    if unlike and not varied:
        raise ArgumentError(
            f"The models must have the {wanted:,} parameters of {first.model} within 5 %, got "
            f"{', '.join(f'{size:,} of {model}' for model, size in unlike.items())}; leave model.hidden_dim out."
        )
    seeds = {model: sorted(one.seed for one in found) for model, found in by_model.items()}
    if len({tuple(each) for each in seeds.values()}) > 1:
        raise ArgumentError(f"Every model must be trained with the same seeds, got {seeds}.")


def _quality(name: str, by_model: Mapping[str, Sequence[Outcome]], first: Outcome, baselines: bool) -> dict[str, Any]:
    """Return one metric of every model, and of the baselines of the first run, whose interval is that of its rows."""
    content = first.metrics
    found: dict[str, Any] = {}
    for model, runs in by_model.items():
        intervals = [one.metric(name) for one in runs]
        if any(one.value is None for one in intervals):
            found[model] = Interval(value=None, note=f"{name} is undefined in a run").model_dump()
            continue
        found[model] = mean_interval(
            [float(one.value or 0.0) for one in intervals],
            row_variance=float(np.mean([_variance(one) for one in intervals])),
            low=0.0,
            high=1.0 if name in _SHARES else None,
        ).model_dump()
    if baselines:
        found |= {score.name: score.metrics[name].model_dump() for score in first.scores[1:]}
    lower = name in content.get("lower_is_better", ["calibration_error"])
    return {"name": name, "title": _title(content, name), "lower_is_better": lower, "models": found}


def _title(metrics: Mapping[str, Any], name: str) -> str:
    """Return what a person calls a metric."""
    return str(metrics.get("titles", {}).get(name, name.replace("_", " ").capitalize()))


def _variance(interval: Interval) -> float:
    """Return the variance that a 95 % interval of rows speaks of."""
    if interval.low is None or interval.high is None:
        return 0.0
    return ((interval.high - interval.low) / (2 * 1.96)) ** 2


def _cost(field: str, title: str, by_model: Mapping[str, Sequence[Outcome]]) -> dict[str, Any] | None:
    values = {model: [getattr(one, field) for one in found] for model, found in by_model.items()}
    if any(value is None for found in values.values() for value in found):
        return None
    models = {model: mean_interval(found, low=0.0).model_dump() for model, found in values.items()}
    return {"name": field, "title": title, "lower_is_better": field != "tokens_per_s", "models": models}


def _against(other: str, by_model: Mapping[str, Sequence[Outcome]], first: Outcome) -> dict[str, Any]:
    """Return the difference in quality and the ratios in cost of the first model and another one."""
    ours, theirs = by_model[first.model], by_model[other]
    metric = first.metrics["metric_order"][0]
    lower = metric in first.metrics.get("lower_is_better", [])
    sides = [[float(one.metric(metric).value or 0.0) for one in side] for side in (ours, theirs)]
    rows = [_rows_of(side) for side in (ours, theirs)]
    paired = _pairs(*rows)
    if paired:
        row_variance = _paired_variance(rows[0], rows[1])  # type: ignore[arg-type]
    else:
        row_variance = float(sum(np.mean([_variance(one.metric(metric)) for one in side]) for side in (ours, theirs)))
    difference = versus(*sides, row_variance=row_variance)
    return {
        "model": first.model,
        "other": other,
        "metric": metric,
        "title": _title(first.metrics, metric),
        "lower_is_better": lower,
        "difference": difference.model_dump(),
        "paired": paired,
        "winner": _winner(difference, first.model, other, lower=lower),
        "ratios": {field: _ratio(field, ours, theirs, first.model, other) for field, _ in _COSTS},
        "flops_ratio": float(np.mean([one.flops for one in ours]) / np.mean([one.flops for one in theirs])),
    }


def _ratio(
    field: str, ours: Sequence[Outcome], theirs: Sequence[Outcome], model: str, other: str
) -> dict[str, Any] | None:
    """Return how many times as much the first model takes, with its interval, by logarithms."""
    sides = [[getattr(one, field) for one in side] for side in (ours, theirs)]
    if any(value is None or value <= 0 for side in sides for value in side):
        return None
    logs = versus(*[[math.log(value) for value in side] for side in sides])
    ends = {name: math.exp(getattr(logs, name)) for name in ("value", "low", "high")}
    return {**ends, "winner": _winner(logs, model, other, lower=field != "tokens_per_s")}


def _winner(difference: Interval, model: str, other: str, *, lower: bool) -> str | None:
    """Return who is better beyond chance; None where the interval of ours less theirs holds 0."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return None
    return model if (difference.low > 0) != lower else other


def _rows_of(runs: Sequence[Outcome]) -> list[Rows] | None:
    """Return the rows of each run's trained model, or None where a run did not write them."""
    found = [one.rows.get(one.scores[0].name) for one in runs]
    return None if any(one is None for one in found) else [one for one in found if one is not None]


def _pairs(ours: Sequence[Rows] | None, theirs: Sequence[Rows] | None) -> bool:
    """Whether both have rows, and the same ones: another length cuts a text into other rows."""
    return ours is not None and theirs is not None and np.array_equal(ours[0].counts, theirs[0].counts)


def _paired_variance(ours: Sequence[Rows], theirs: Sequence[Rows], where: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the variance of the difference of two models that comes from which rows were drawn, row by row."""
    first = ours[0]
    chosen = np.ones(len(first.totals), dtype=bool) if where is None else where
    totals = np.mean([one.totals for one in ours], 0) - np.mean([one.totals for one in theirs], 0)
    samples = [
        (totals[chosen] @ counts) / (first.counts[chosen] @ counts)
        for counts in block_counts(int(chosen.sum()), min(first.block_len, int(chosen.sum())))
    ]
    return float(np.concatenate(samples).var(ddof=1))


def _regions(other: str, by_model: Mapping[str, Sequence[Outcome]], first: Outcome) -> list[dict[str, Any]]:
    """Return who wins among short, middling and long rows."""
    ours, theirs = _rows_of(by_model[first.model]), _rows_of(by_model[other])
    if ours is None or theirs is None or ours[0].lengths is None or not _pairs(ours, theirs):
        return []
    lengths, metric = ours[0].lengths, first.metrics["metric_order"][0]
    bounds = np.quantile(lengths, np.linspace(0, 1, _REGIONS + 1))
    numbers = np.searchsorted(bounds[1:-1], lengths, side="right")
    lower = metric in first.metrics.get("lower_is_better", [])
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        if inside.sum() < 2:
            continue
        sides = [[_mean(one, inside) for one in side] for side in (ours, theirs)]
        difference = versus(*sides, row_variance=_paired_variance(ours, theirs, inside))
        found.append(
            {
                "model": first.model,
                "other": other,
                "metric": metric,
                "title": _title(first.metrics, metric),
                "from": int(lengths[inside].min()),
                "to": int(lengths[inside].max()),
                "num_rows": int(inside.sum()),
                "values": {first.model: float(np.mean(sides[0])), other: float(np.mean(sides[1]))},
                "difference": difference.model_dump(),
                "winner": _winner(difference, first.model, other, lower=lower),
            }
        )
    return found


def _mean(rows: Rows, inside: npt.NDArray[np.bool_]) -> float:
    return float(rows.totals[inside].sum() / rows.counts[inside].sum())
