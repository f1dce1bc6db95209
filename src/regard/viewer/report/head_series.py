"""Statistics of all heads over training, reduced by DuckDB to at most 60 stretches of steps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.records import Run
from regard.viewer.report.layers import natural_order

__all__ = ["HeadSeries", "head_series"]

_STRETCHES = 60

_QUERY = """
WITH steps AS (
    SELECT statistic, step, row_number() OVER (PARTITION BY statistic ORDER BY step) - 1 AS place,
           count(*) OVER (PARTITION BY statistic) AS num_steps
    FROM (SELECT DISTINCT statistic, step FROM heads WHERE isfinite(mean))
), stretches AS (
    SELECT statistic, step, (place * least(num_steps, $1)) // num_steps AS stretch FROM steps
)
SELECT statistic, layer, head, stretch, avg(mean) AS value, min(step) AS first_step, max(step) AS last_step
FROM heads JOIN stretches USING (statistic, step) WHERE isfinite(mean)
GROUP BY statistic, layer, head, stretch
"""


@dataclass(frozen=True, kw_only=True)
class HeadSeries:
    """One statistic.

    Attributes:
        statistic: its name.
        layers: dotted names, lowest first.
        values: (stretches, layers, heads) means over the recorded steps of a stretch; NaN where a head is absent.
        first_steps: (stretches,) first recorded step of each stretch.
        last_steps: (stretches,) last one.
    """

    statistic: str
    layers: list[str]
    values: npt.NDArray[np.float64]
    first_steps: npt.NDArray[np.int64]
    last_steps: npt.NDArray[np.int64]

    @property
    def middles(self) -> npt.NDArray[np.float64]:
        """Middle step of each stretch."""
        return (self.first_steps + self.last_steps) / 2

    def told(self, stretch: int) -> str:
        """Return the steps of a stretch in words."""
        first, last = int(self.first_steps[stretch]), int(self.last_steps[stretch])
        return f"step {first:,}" if first == last else f"steps {first:,}–{last:,}"


def head_series(run: Run) -> dict[str, HeadSeries]:
    """Return every recorded statistic of ``run``; empty if there is none."""
    if not run.heads.exists:
        return {}
    rows = run.heads.query(_QUERY, [_STRETCHES])
    order = _layer_order(run, rows["layer"])
    place = {name: index for index, name in enumerate(order)}
    layer = np.array([place[name] for name in rows["layer"]], dtype=np.int64)
    names, which = np.unique(rows["statistic"].astype(str), return_inverse=True)
    num_heads = int(rows["head"].max()) + 1 if len(layer) else 0
    return {
        str(name): _series(str(name), rows, which == index, layer, order, num_heads) for index, name in enumerate(names)
    }


def _series(
    name: str,
    rows: dict[str, npt.NDArray[Any]],
    chosen: npt.NDArray[np.bool_],
    layer: npt.NDArray[np.int64],
    layers: list[str],
    num_heads: int,
) -> HeadSeries:
    stretch = rows["stretch"][chosen].astype(np.int64)
    num = int(stretch.max()) + 1
    values = np.full((num, len(layers), num_heads), np.nan)
    values[stretch, layer[chosen], rows["head"][chosen].astype(np.int64)] = rows["value"][chosen]
    first = np.full(num, np.iinfo(np.int64).max)
    last = np.zeros(num, dtype=np.int64)
    np.minimum.at(first, stretch, rows["first_step"][chosen].astype(np.int64))
    np.maximum.at(last, stretch, rows["last_step"][chosen].astype(np.int64))
    return HeadSeries(statistic=name, layers=layers, values=values, first_steps=first, last_steps=last)


def _layer_order(run: Run, found: npt.NDArray[Any]) -> list[str]:
    """Order layers as the model runs them, which coverage knows, and the rest by name."""
    present = set(found)
    known = [entry["layer"] for entry in run.info.coverage if entry.get("layer") in present]
    if set(known) == present:
        return list(dict.fromkeys(known))
    return natural_order(present)
