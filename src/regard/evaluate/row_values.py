"""The first metric of each model row by row, for ``rows.json``: what later comparisons pair the rows of runs by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.evaluate.table import Metric, RowSums

__all__ = ["row_values", "rows_of_sums"]


def row_values(
    metric: str,
    models: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    block_len: int = 1,
    lengths: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the content of ``rows.json``.

    Args:
        metric: the first one of ``metrics.json``, which is the sum of totals over the sum of counts.
        models: name -> its totals and counts, (rows,) each.
        block_len: rows of a stretch of the bootstrap, where rows follow one another in time.
        lengths: tokens of each row, where rows are of unlike length.
    """
    return {
        "schema_version": 1,
        "metric": metric,
        "block_len": block_len,
        "lengths": None if lengths is None else list(lengths),
        "models": {
            name: {
                "totals": np.asarray(totals, dtype=np.float64).tolist(),
                "counts": np.asarray(counts, dtype=np.float64).tolist(),
            }
            for name, (totals, counts) in models.items()
        },
    }


def rows_of_sums(metric: Metric, models: Sequence[RowSums], *, block_len: int = 1) -> dict[str, Any]:
    """Return ``row_values`` of a metric that ``mean`` made: its first column over its second."""
    total, count = metric.columns
    found = {model.name: (model.columns[total], model.columns[count]) for model in models}
    return row_values(metric.name, found, block_len=block_len)
