"""Write statistics into the run folder while the model trains."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from regard.observe.moments import Moments
from regard.records import HEAD_COLUMNS, HeadTable

__all__ = ["HeadRecorder"]

_MOST_WAITING = 4  # parts that may wait for the disk before the model does

_Waiting = dict[tuple[int, str, tuple[str, ...]], Moments]


class HeadRecorder:
    """Collect the summaries of each step in memory and write them to ``heads.parquet`` in parts, in another thread.

    What goes wrong there, such as a full disk, is raised by the next call.

    Args:
        table: the run's head table.
        flush_rows: write a part when this many rows are waiting.
    """

    def __init__(self, table: HeadTable, *, flush_rows: int = 50_000) -> None:
        self._table = table
        self._flush_rows = flush_rows
        self._waiting: _Waiting = {}
        self._num_rows = 0
        self._writer: ThreadPoolExecutor | None = None
        self._parts: deque[Future[None]] = deque()

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Take the summary of one call; calls of the same step and layer are merged."""
        key = (step, layer, statistics)
        if key in self._waiting:
            self._waiting[key] = self._waiting[key].merge(moments)
            return
        if self._num_rows >= self._flush_rows:
            self._hand_over()
        self._waiting[key] = moments
        self._num_rows += moments.num_rows.numel()

    def flush(self) -> None:
        """Write what is waiting; after this it is on disk."""
        self._hand_over()
        self._settle(0)

    def close(self) -> None:
        """Write what is waiting and end the thread; closing twice is harmless."""
        try:
            self.flush()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def _hand_over(self) -> None:
        """Give what is waiting to the thread; wait only if it is far behind."""
        if self._waiting:
            waiting, self._waiting, self._num_rows = self._waiting, {}, 0
            if self._writer is None:
                self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="regard-heads")
            self._parts.append(self._writer.submit(self._write, waiting))
        self._settle(_MOST_WAITING)

    def _settle(self, most: int) -> None:
        """Wait until at most ``most`` parts are unwritten, and raise what went wrong with any that is done."""
        while self._parts and (len(self._parts) > most or self._parts[0].done()):
            self._parts.popleft().result()

    def _write(self, waiting: _Waiting) -> None:
        parts = [_columns(step, layer, names, moments) for (step, layer, names), moments in waiting.items()]
        self._table.append({name: np.concatenate([part[name] for part in parts]) for name in HEAD_COLUMNS})


def _columns(
    step: int, layer: str, statistics: Sequence[str], moments: Moments
) -> dict[str, npt.NDArray[np.generic] | npt.NDArray[np.object_]]:
    num_statistics, num_heads = moments.num_rows.shape
    size = num_statistics * num_heads
    sampled = bool((moments.population > moments.num_rows).any())
    missing = np.full(size, np.nan, dtype=np.float32)
    quantiles = [missing] * 3 if moments.quantiles is None else [q.flatten().numpy() for q in moments.quantiles.cpu()]
    nothing = (moments.num_rows == 0).flatten().cpu().numpy()
    return {
        "step": np.full(size, step, dtype=np.int32),
        "layer": np.full(size, layer, dtype=object),
        "head": np.tile(np.arange(num_heads, dtype=np.int16), num_statistics),
        "statistic": np.repeat(np.array(statistics, dtype=object), num_heads),
        "mean": moments.mean.flatten().cpu().numpy(),
        "se": moments.standard_error.flatten().cpu().numpy() if sampled else missing,
        "minimum": np.where(nothing, np.nan, moments.minimum.flatten().cpu().numpy()),
        "q10": quantiles[0],
        "q50": quantiles[1],
        "q90": quantiles[2],
        "maximum": np.where(nothing, np.nan, moments.maximum.flatten().cpu().numpy()),
        "num_rows": moments.num_rows.flatten().cpu().numpy(),
        "num_empty_rows": moments.num_empty.flatten().cpu().numpy(),
        "sequence_std": moments.sequence_std.flatten().cpu().numpy(),
        "sequence_minimum": moments.sequence_minimum.flatten().cpu().numpy(),
        "sequence_maximum": moments.sequence_maximum.flatten().cpu().numpy(),
        "sequence_share": moments.sequence_share.flatten().cpu().numpy(),
    }
