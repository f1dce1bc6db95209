"""Write statistics into the run folder while the model trains."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regard.observe.moments import Moments
from regard.observe.recorders.background_recorder import BackgroundRecorder
from regard.observe.recorders.waiting import Seen
from regard.records import HEAD_COLUMNS, HeadTable

__all__ = ["HeadRecorder"]

_Columns = dict[str, npt.NDArray[np.generic] | npt.NDArray[np.object_]]


class HeadRecorder(BackgroundRecorder):
    """Collect the summaries of each step in memory and write them to ``heads.parquet`` in parts, in another thread.

    Each part is written whole, so that the folder of an interrupted run opens. Rows that could not be written, as on a
    full disk, are kept and tried again with the next part or at ``flush``.

    Args:
        table: the run's head table.
        flush_rows: write a part when this many rows are waiting and a step is over.

    Example:
        >>> from regard.records import Run
        >>> run = Run.create(tmp_path / "run", recipe="mine")
        >>> with HeadRecorder(run.heads) as recorder, regard.watch(model, ["entropy"], recorder=recorder):
        ...     _ = model(inputs)
        >>> run.heads.query("SELECT count(*) AS n FROM heads")["n"].tolist()  # 2 layers of 12 heads
        [24]
    """

    def __init__(self, table: HeadTable, *, flush_rows: int = 50_000) -> None:
        super().__init__()
        self._table = table
        self._flush_rows = flush_rows
        self._unwritten: list[_Columns] = []

    def _is_due(self, step: int) -> bool:
        return self._waiting.num_rows >= self._flush_rows and step > self._waiting.newest_step

    def _write(self, seen: Sequence[Seen]) -> None:
        self._unwritten += [_columns(one.step, one.layer, one.statistics, one.moments) for one in seen]
        if self._unwritten:
            parts = self._unwritten
            self._table.append({name: np.concatenate([part[name] for part in parts]) for name in HEAD_COLUMNS})
            self._unwritten = []


def _columns(step: int, layer: str, statistics: Sequence[str], moments: Moments) -> _Columns:
    num_statistics, num_heads = moments.num_rows.shape
    size = num_statistics * num_heads
    sampled = bool((moments.population > moments.num_rows).any())
    missing = np.full(size, np.nan, dtype=np.float32)
    quantiles = [missing] * 3 if moments.quantiles is None else [q.flatten().numpy() for q in moments.quantiles]
    nothing = (moments.num_rows == 0).flatten().numpy()
    return {
        "step": np.full(size, step, dtype=np.int32),
        "layer": np.full(size, layer, dtype=object),
        "head": np.tile(np.arange(num_heads, dtype=np.int16), num_statistics),
        "statistic": np.repeat(np.array(statistics, dtype=object), num_heads),
        "mean": moments.mean.flatten().numpy(),
        "se": moments.standard_error.flatten().numpy() if sampled else missing,
        "minimum": np.where(nothing, np.nan, moments.minimum.flatten().numpy()),
        "q10": quantiles[0],
        "q50": quantiles[1],
        "q90": quantiles[2],
        "maximum": np.where(nothing, np.nan, moments.maximum.flatten().numpy()),
        "num_rows": moments.num_rows.flatten().numpy(),
        "num_empty_rows": moments.num_empty.flatten().numpy(),
        "sequence_std": moments.sequence_std.flatten().numpy(),
        "sequence_minimum": moments.sequence_minimum.flatten().numpy(),
        "sequence_maximum": moments.sequence_maximum.flatten().numpy(),
        "sequence_share": moments.sequence_share.flatten().numpy(),
    }
