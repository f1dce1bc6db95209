"""Show statistics in TensorBoard: curves, histograms, an image of all heads, and small maps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from regard._errors import ArgumentError, DtypeError, MissingDependencyError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS
from regard.observe.recorders.background_recorder import StepRecorder
from regard.observe.recorders.heat_map import heat_map
from regard.observe.recorders.waiting import Seen, means, path

__all__ = ["TensorBoardRecorder"]

_FLUSH_S = 10  # what a kill can lose; SummaryWriter's own two minutes are long for a run that one looks at
_BUCKETS = 30  # as many as TensorBoard draws
_LARGEST_MAP = 256
_SMALLEST_CELL = 8  # pixels of a head's cell, so that it can be read where there are many heads

_WITHIN_ONE = frozenset({"0 to 1", "0 or 1", "1/n to 1", "0 to 1 - 1/n", "ceil(n/10)/n to 1"})
_SHARES = {
    *(name for name, known in {**ROW_STATISTICS, **COLUMN_STATISTICS}.items() if known.range in _WITHIN_ONE),
    *("padding_mass", "output_diversity", "residual_diversity"),
}

_Means = Mapping[tuple[str, str], npt.NDArray[np.float64]]


class TensorBoardRecorder(StepRecorder):
    """Write the statistics of each step as TensorBoard's event files, in another thread.

    - Scalars ``<statistic>/<layer>/head<h>``: the mean over the rows. A head in which no row counted has no point.
    - Histograms ``<statistic>/<layer>``: of those means over the heads of a layer, as far as they are finite.
    - Images ``heads/<statistic>``: a row for each layer, in the order of their names with numbers as numbers, and a
      column for each head. A statistic that lies between 0 and 1 is coloured on that scale, any other one from the
      smallest to the largest value of the image; grey is a head in which no row counted.
    - Images ``maps/<layer>/head<h>``: what is handed to ``maps``.

    A step is written when the next one begins, or at ``flush``. TensorBoard follows a run within ten seconds, and the
    folder of an interrupted run opens. Give each run a folder of its own, and ``purge_step`` where it goes on there:
    otherwise TensorBoard shows steps that were run twice twice.

    Args:
        folder: where to; it is made. ``tensorboard --logdir`` takes it, or a folder around several.
        images_every: draw a statistic's image when this many steps have passed since its last one; 0 for never.
        histograms: also write the histograms.
        purge_step: the step at which a run goes on in its folder; whatever the folder holds of this step and later ones
            is marked as not having been, also what others wrote there. None to only add.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
        ArgumentError: ``images_every`` is below 0.

    Example:
        >>> with TensorBoardRecorder("runs/mine") as recorder, regard.watch(model, ["entropy"], recorder=recorder):
        ...     _ = model(inputs)
    """

    def __init__(
        self, folder: Path | str, *, images_every: int = 50, histograms: bool = True, purge_step: int | None = None
    ) -> None:
        if images_every < 0:
            raise ArgumentError(f"images_every must be a number of steps, or 0 for no images, got {images_every}.")
        super().__init__()
        self._writer = _summary_writer(Path(folder), purge_step)
        self._images_every = images_every
        self._histograms = histograms
        self._drawn: dict[str, int] = {}
        self._layers: dict[str, set[str]] = {}

    def maps(self, step: int, layer: str, head: int, weights: Tensor) -> None:
        """Show the attention weights of one head as an image, from dark for 0 to bright for the largest weight.

        A map of more than 256 queries or keys is averaged down by square blocks first, on its own device.

        Args:
            step: counted from 1.
            layer: dotted module name.
            head: which head.
            weights: (queries, keys) of a floating type; ``View.weights`` gives them.

        Raises:
            ArgumentError: ``weights`` is not a matrix, or is one without cells.
            DtypeError: it is not of a floating type.
            RecordError: what came before could not be written, or the recorder is closed.
        """
        if weights.ndim != 2 or not weights.numel():
            raise ArgumentError(f"weights must be a matrix (queries, keys), got shape {tuple(weights.shape)}.")
        if not weights.is_floating_point():
            raise DtypeError(f"weights must be of a floating type, got {weights.dtype}; convert them with .float().")
        block = -(-max(weights.shape) // _LARGEST_MAP)
        small = F.avg_pool2d(weights.detach()[None].float(), block, ceil_mode=True)[0].cpu().numpy()
        tag = path("maps", layer, f"head{head}")
        with self._lock:
            self._check_open()
            self._background.submit(lambda: self._draw(tag, step, small, low=0.0))

    def _write_step(self, step: int, seen: Sequence[Seen]) -> None:
        from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

        found = means(seen)
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _points(found)]
        if self._histograms:
            values += [Summary.Value(tag=tag, histo=HistogramProto(**of)) for tag, of in _distributions(found)]
        # One event for all: SummaryWriter.add_scalar would take ten times as long, and its queue holds ten events.
        self._writer.file_writer.add_summary(Summary(value=values), step)
        for statistic in dict.fromkeys(statistic for _, statistic in found):
            self._layers.setdefault(statistic, set()).update(layer for layer, name in found if name == statistic)
            if self._is_drawn(statistic, step):
                low, high = (0.0, 1.0) if statistic in _SHARES else (None, None)
                grid = self._grid(statistic, found)
                self._draw(path("heads", statistic), step, grid, low=low, high=high, cell=_SMALLEST_CELL)

    def _is_drawn(self, statistic: str, step: int) -> bool:
        """Return whether to draw ``statistic`` at ``step``, and remember it."""
        last = self._drawn.get(statistic)
        due = self._images_every > 0 and (last is None or step - last >= self._images_every)
        if due:
            self._drawn[statistic] = step
        return due

    def _grid(self, statistic: str, found: _Means) -> npt.NDArray[np.float64]:
        """Return (layers, heads) of all layers that ever told ``statistic``, so that a layer keeps its row."""
        rows = [found.get((layer, statistic), np.empty(0)) for layer in sorted(self._layers[statistic], key=_natural)]
        grid = np.full((len(rows), max(map(len, rows))), np.nan)
        for place, row in zip(grid, rows, strict=True):
            place[: len(row)] = row
        return grid

    def _draw(
        self,
        tag: str,
        step: int,
        values: npt.NDArray[np.floating],
        *,
        low: float | None,
        high: float | None = None,
        cell: int = 1,
    ) -> None:
        self._writer.add_image(tag, heat_map(values, low=low, high=high, cell=cell), step, dataformats="HWC")

    def _sync(self) -> None:
        self._writer.flush()

    def _end(self) -> None:
        self._writer.close()


def _points(found: _Means) -> Iterator[tuple[str, float]]:
    for (layer, statistic), values in found.items():
        for head, value in enumerate(values.tolist()):
            if value == value:
                yield path(statistic, layer, f"head{head}"), value


def _distributions(found: _Means) -> Iterator[tuple[str, dict[str, Any]]]:
    for (layer, statistic), values in found.items():
        finite = values[np.isfinite(values)]
        if finite.size:
            yield path(statistic, layer), _histogram(finite)


def _histogram(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the fields of a HistogramProto: buckets of one width from the smallest value to the largest."""
    limits = np.linspace(values.min(), values.max(), _BUCKETS + 1)
    if (limits[1:] <= limits[:-1]).any():  # values so close that float64 has no numbers between them
        limits = limits[[0, -1]]
    places = np.searchsorted(limits[1:-1], values, side="left")  # a bucket holds its upper limit
    return {
        "min": limits[0],
        "max": limits[-1],
        "num": values.size,
        "sum": values.sum(),
        "sum_squares": np.square(values).sum(),
        "bucket_limit": limits[1:],
        "bucket": np.bincount(places, minlength=len(limits) - 1),
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names with their numbers as numbers: layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _summary_writer(folder: Path, purge_step: int | None) -> Any:
    if find_spec("tensorboard") is None:
        raise MissingDependencyError(
            'A recorder for TensorBoard needs it, which is not installed; run `pip install "regard[tensorboard]"`.'
        )
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step, flush_secs=_FLUSH_S)
