"""Statistics as curves for PlotJuggler: files that it opens, a layout for them, and a live stream."""

from collections.abc import Sequence
from pathlib import Path

from regard._errors import ArgumentError
from regard.observe.recorders.background_recorder import StepRecorder
from regard.observe.recorders.curves import CurveFile
from regard.observe.recorders.datagrams import DatagramStream
from regard.observe.recorders.plotjuggler_layout import layout
from regard.observe.recorders.waiting import Seen, means, path
from regard.records.atomic import write_bytes

__all__ = ["PlotJugglerRecorder"]

_CSV = "curves.csv"


class PlotJugglerRecorder(StepRecorder):
    """Write the mean of every head as a curve over the steps, for PlotJuggler to open or to draw while it happens.

    Curves are named ``encoder/layer/0/attention/head3/entropy``: the layer with slashes for dots, the head, the
    statistic. In the folder are

    - ``curves.csv``: the column ``t`` is the step, counted from 1, then a column a curve, a row a step; a cell is empty
      where a statistic was not taken, no row counted or the mean is infinite. A row is appended when a later step
      begins, or at ``flush``;
    - ``curves.parquet``, at ``close``: the same, each curve as float32;
    - ``layout.xml``: opens ``curves.csv`` with the curves of ``entropy``, or of the first statistic where that is not
      watched: a plot a layer. Beside a stream there is ``layout_live.xml``, for its names.

    A folder that has a ``curves.csv`` is continued: rows from the first new step on are replaced, as by training that
    resumes. In the same way a statistic that comes again for a layer and step that is written replaces what was there.

    Args:
        folder: where the files go; made if need be.
        udp: also send each step to this address, ``"host:port"``; PlotJuggler listens at ``"127.0.0.1:9870"``. A
            datagram is a flat JSON object of ``t`` and curves, at most 8192 bytes; NaN and infinity are left out.
            Nobody needs to listen.

    Raises:
        ArgumentError: the folder is a file, or the address means nothing.
        RecordError: the folder's ``curves.csv`` is not one.

    Example:
        >>> with PlotJugglerRecorder(tmp_path) as recorder, regard.watch(model, ["entropy"], recorder=recorder):
        ...     _ = model(inputs)
        >>> sorted(file.name for file in tmp_path.iterdir())
        ['curves.csv', 'curves.parquet', 'layout.xml']
        >>> header = (tmp_path / "curves.csv").read_text().splitlines()[0]
        >>> header.split(",")[:2]
        ['t', 'encoder/layer/0/attention/head0/entropy']
    """

    def __init__(self, folder: Path | str, *, udp: str | None = None) -> None:
        super().__init__()
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ArgumentError(
                f"folder must be a folder or not be there yet, got {folder}, which is a file."
            ) from error
        self._file = CurveFile(self._folder / _CSV)
        self._stream = None if udp is None else DatagramStream(udp)
        self._drawn: list[str] = []

    @property
    def num_lost(self) -> int:
        """Datagrams that this machine refused to send; 0 without a stream."""
        return 0 if self._stream is None else self._stream.num_lost

    def _write_step(self, step: int, seen: Sequence[Seen]) -> None:
        curves: dict[str, float] = {}
        for (layer, statistic), heads in means(seen).items():
            start = path(layer.replace(".", "/"), "head")
            curves |= {f"{start}{head}/{statistic}": value for head, value in enumerate(heads.tolist())}
        if self._stream is not None:
            self._stream.send(step, curves)
        self._file.append(step, curves)
        self._draw()

    def _sync(self) -> None:
        self._file.settle()
        self._draw()

    def _end(self) -> None:
        try:
            self._file.write_parquet(self._folder / "curves.parquet")
            self._draw()
        finally:
            if self._stream is not None:
                self._stream.close()

    def _draw(self) -> None:
        """Write the layout again where there are other curves than before."""
        curves = self._file.curves
        if curves == self._drawn:
            return
        write_bytes(self._folder / "layout.xml", layout(curves, data_file=_CSV))
        if self._stream is not None:
            # PlotJuggler puts a slash before every name that comes from a stream.
            live = [f"/{curve}" for curve in curves]
            write_bytes(self._folder / "layout_live.xml", layout(live, data_file=None))
        self._drawn = curves
