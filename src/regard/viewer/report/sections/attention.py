"""What the heads did: maps over training, trajectories, the heads that changed most, and what was not seen."""

from typing import Any

import numpy as np

from regard.records import Run
from regard.viewer.report.charts import ColourScale, colour_bar, heat_map, layer_panel, sparkline
from regard.viewer.report.head_series import HeadSeries, head_series
from regard.viewer.report.layers import row_marks, short_names
from regard.viewer.report.numbers import count, number
from regard.viewer.report.statistics import meaning, ordered

__all__ = ["attention"]

_MAX_CELLS = 9_000
_MOMENTS = 5
_MAX_PANELS = 48
_CHANGED = 10


def attention(run: Run) -> dict[str, Any]:
    """Return the maps, panels, tables and coverage of attention; ``missing`` where no head was recorded."""
    section: dict[str, Any] = {"coverage": _coverage(run), "kernels": _kernels(run)}
    series = head_series(run)
    if not series:
        return {**section, "missing": "No head statistics were recorded, so there is nothing to draw."}
    names = ordered(list(series))
    flat = {name: text for name in names if (text := _constant(series[name])) is not None}
    drawn = [name for name in names if name not in flat]
    moments, kept = _budget(series, drawn)
    main = next((name for name in ("normalized_entropy", "entropy") if name in series), names[0])
    return {
        **section,
        "maps": [_maps(series[name], moments) for name in kept],
        "flat": [(meaning(name).title, text) for name, text in flat.items()],
        "left_out": [meaning(name).title for name in drawn if name not in kept],
        "main": meaning(main).title,
        "panels": _panels(series[main]),
        "num_panels_left_out": max(0, len(series[main].layers) - _MAX_PANELS),
        "changed": _changed(series, main),
        "columns": [meaning(name).title for name in _beside(series, main)],
        "num_heads": int(np.isfinite(series[main].values).any(axis=0).sum()),
        "num_layers": len(series[main].layers),
    }


def _constant(series: HeadSeries) -> str | None:
    """Return the one value of a statistic that is the same in every head and step; a map of it would say nothing."""
    known = series.values[np.isfinite(series.values)]
    return number(float(known[0])) if len(known) and float(np.ptp(known)) == 0 else None


def _budget(series: dict[str, HeadSeries], names: list[str]) -> tuple[int, list[str]]:
    """Choose how many moments and which statistics are drawn, so that a deep model still gives a small page."""
    if not names:
        return 1, []
    _, num_layers, num_heads = series[names[0]].values.shape
    cells = num_layers * num_heads
    moments = max(2, min(_MOMENTS, _MAX_CELLS // (cells * len(names)) - 1))
    most = max(1, _MAX_CELLS // (cells * (moments + 1)))
    return moments, names[:most]


def _maps(series: HeadSeries, moments: int) -> dict[str, Any]:
    told = meaning(series.statistic)
    chosen = sorted(set(np.linspace(0, len(series.values) - 1, moments).round().astype(int).tolist()))
    known = series.values[np.isfinite(series.values)]
    low = float(known.min()) if told.low is None else told.low
    high = float(known.max()) if told.high is None else told.high
    scale = ColourScale(low=low, high=high)
    short = short_names(series.layers)
    layers = [short[layer] for layer in series.layers]
    rows = row_marks(series.layers)
    panels = [
        {
            "when": series.told(stretch),
            "svg": heat_map(
                series.values[stretch],
                scale=scale,
                title=f"{told.title}, {series.told(stretch)}",
                layers=layers,
                rows=rows,
            ),
        }
        for stretch in chosen
    ]
    found: dict[str, Any] = {"meaning": told, "panels": panels, "bar": colour_bar(scale, unit=told.unit)}
    if len(chosen) > 1:
        change = series.values[chosen[-1]] - series.values[chosen[0]]
        largest = float(np.nanmax(np.abs(change), initial=0.0)) or 1.0
        changes = ColourScale(low=-largest, high=largest, diverging=True)
        title = f"{told.title}, change from start to end"
        found["change"] = heat_map(change, scale=changes, title=title, layers=layers, rows=rows)
        found["change_bar"] = colour_bar(changes, unit=told.unit)
    return found


def _panels(series: HeadSeries) -> list[Any]:
    if len(series.values) < 2:
        return []
    told = meaning(series.statistic)
    known = series.values[np.isfinite(series.values)]
    y_range = (
        float(known.min()) if told.low is None else told.low,
        float(known.max()) if told.high is None else told.high,
    )
    strong = {(layer, head) for layer, head, _ in _most_changed(series)}
    short = short_names(series.layers)
    return [
        {
            "title": short[name],
            "svg": layer_panel(
                series.middles,
                series.values[:, layer],
                title=f"{told.title} of {short[name]}",
                y_range=y_range,
                strong=frozenset(head for where, head in strong if where == layer),
            ),
        }
        for layer, name in list(enumerate(series.layers))[:_MAX_PANELS]
    ]


def _most_changed(series: HeadSeries) -> list[tuple[int, int, float]]:
    """Return (layer, head, change) of the heads whose statistic moved most from start to end."""
    change = series.values[-1] - series.values[0]
    order = np.argsort(-np.nan_to_num(np.abs(change), nan=-1.0), axis=None)[:_CHANGED]
    places = [np.unravel_index(int(index), change.shape) for index in order]
    return [(int(a), int(b), float(change[a, b])) for a, b in places if np.isfinite(change[a, b]) and change[a, b] != 0]


def _beside(series: dict[str, HeadSeries], main: str) -> list[str]:
    wanted = ("max_weight", "first_mass", "distance", "output_norm")
    return [name for name in wanted if name in series and name != main][:3]


def _changed(series: dict[str, HeadSeries], main: str) -> list[dict[str, Any]]:
    chosen = series[main]
    short = short_names(chosen.layers)
    rows = []
    for layer, head, change in _most_changed(chosen):
        name = f"{short[chosen.layers[layer]]} head {head}"
        values = chosen.values[:, layer, head]
        rows.append(
            {
                "name": name,
                "first": number(float(values[0])),
                "last": number(float(values[-1])),
                "change": ("+" if change > 0 else "") + number(change),
                "spark": sparkline(values, title=f"{meaning(main).title} of {name} over training"),
                "others": [
                    f"{number(float(series[other].values[0, layer, head]))} → "
                    f"{number(float(series[other].values[-1, layer, head]))}"
                    for other in _beside(series, main)
                ],
            }
        )
    return rows


def _coverage(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "layer": entry.get("layer", ""),
            "seen": bool(entry.get("seen")),
            "calls": count(entry.get("calls")),
            "kernel": entry.get("kernel") or "–",
            "kind": entry.get("kind") or "–",
            "reason": entry.get("reason") or "",
        }
        for entry in run.info.coverage
    ]


def _kernels(run: Run) -> list[tuple[str, str]]:
    return [(name, count(calls)) for name, calls in sorted(run.info.kernels.items(), key=lambda item: -item[1])]
