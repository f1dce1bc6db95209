"""A comparison in words: one table, and one sentence for each thing that may be claimed."""

from collections.abc import Iterator, Mapping
from typing import Any

from regard.train.comparing.convergence import convergence_sentences, convergence_table

__all__ = ["markdown", "sentences", "table"]

_COSTS_SHOWN = ("cpu_seconds", "seconds", "tokens_per_s", "peak_bytes")
_QUALITIES_SHOWN = 3
_NAMES = {
    "cpu_seconds": "processor time of training",
    "seconds": "time of training",
    "tokens_per_s": "tokens a second",
    "peak_bytes": "peak memory of the process",
}


def table(content: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the one table: quality, parameters, operations, time, memory, speed.

    Args:
        content: of ``comparison.json``.
    """
    qualities = content["quality"][:_QUALITIES_SHOWN]
    costs = {cost["name"]: cost for cost in content["cost"]}
    shown = [name for name in _COSTS_SHOWN if name in costs]
    headings = ["model", *(one["title"] for one in qualities), "parameters", "training FLOPs"]
    headings += [costs[name]["title"] for name in shown]
    rows = []
    for model in qualities[0]["models"]:
        trained = model in content["models"]
        cells = [_interval(one["models"][model]) for one in qualities]
        cells += (
            [f"{content['parameters'][model]:,}", _large(content["training_flops"][model])] if trained else ["", ""]
        )
        cells += [_interval(costs[name]["models"][model], name) if trained else "" for name in shown]
        rows.append([model, *cells])
    return headings, rows


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what may be claimed, with intervals, and what may not."""
    told = []
    for pair in content["against"]:
        told.append(_quality_sentence(pair))
        told += _cost_sentences(pair)
    told += [_region_sentence(region) for region in content["regions"]]
    told += _baseline_sentences(content)
    if "convergence" in content:
        told += convergence_sentences(content["convergence"])
    return told


def markdown(content: Mapping[str, Any]) -> str:
    """Return the comparison as a page of Markdown."""
    drawn = _drawn(*table(content))
    if "convergence" in content:
        drawn += f"\n\n{_drawn(*convergence_table(content['convergence']))}"
    claims = "\n".join(f"- {sentence}" for sentence in sentences(content))
    seeds = ", ".join(map(str, content["seeds"]))
    return (
        f"# {', '.join(content['models'])}: {content['task']}\n\n"
        f"{content['num_rows']:,} {content['unit']} of the test set; seeds {seeds}; one split.\n\n"
        f"{drawn}\n\n## What follows, and what does not\n\n{claims}\n\n{content['method']}.\n"
    )


def _drawn(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _quality_sentence(pair: Mapping[str, Any]) -> str:
    difference = pair["difference"]
    told = f"{pair['title']} of {pair['model']} less that of {pair['other']}: {_signed(difference)}"
    rows = "" if pair["paired"] else "; rows could not be paired"
    if pair["winner"] is None:
        return f"{told}{rows}: chance alone could make this difference."
    return f"{told}{rows}: {pair['winner']} is better, beyond chance."


def _cost_sentences(pair: Mapping[str, Any]) -> Iterator[str]:
    for name, ratio in pair["ratios"].items():
        if ratio is None:
            continue
        told = (
            f"{_NAMES[name].capitalize()} of {pair['model']} over {pair['other']}: {ratio['value']:.2f} "
            f"({ratio['low']:.2f} to {ratio['high']:.2f})"
        )
        yield f"{told}: {'no difference beyond chance' if ratio['winner'] is None else ratio['winner'] + ' wins'}."
    yield f"FLOPs of training, {pair['model']} over {pair['other']}: {pair['flops_ratio']:.2f}, counted."


def _region_sentence(region: Mapping[str, Any]) -> str:
    values = ", ".join(f"{model} {value:.4f}" for model, value in region["values"].items())
    verdict = (
        "chance alone could make this" if region["winner"] is None else f"{region['winner']} is better, beyond chance"
    )
    return (
        f"{region['from']} to {region['to']} tokens ({region['num_rows']:,} rows): {region['title']} {values}, "
        f"difference {_signed(region['difference'])}: {verdict}."
    )


def _baseline_sentences(content: Mapping[str, Any]) -> Iterator[str]:
    """Say which baselines stand above every network: intervals of one set of rows, not a test of the difference."""
    quality = content["quality"][0]
    sign = -1.0 if quality["lower_is_better"] else 1.0
    best = max(content["models"], key=lambda model: sign * (quality["models"][model]["value"] or 0.0))
    for name, one in quality["models"].items():
        if name not in content["models"] and sign * one["value"] >= sign * quality["models"][best]["value"]:
            yield f"No network is ahead of the {name}: {_interval(one)} against {_interval(quality['models'][best])}."


def _interval(one: Mapping[str, Any], name: str = "") -> str:
    if one["value"] is None:
        return "undefined"
    value, low, high = (None if one[key] is None else _number(one[key], name) for key in ("value", "low", "high"))
    return str(value) if low is None else f"{value} ({low}–{high})"


def _number(value: float, name: str) -> str:
    if name == "peak_bytes":
        return f"{value / 1e6:,.0f}"
    if abs(value) >= 10:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or abs(value) < 1e-9 else f"{value:.3g}"


def _signed(one: Mapping[str, Any]) -> str:
    value, low, high = (f"{one[key]:+.4f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _large(value: float) -> str:
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"
