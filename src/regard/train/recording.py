"""Where the statistics of a run go: always to ``heads.parquet``, and to what the recipe names besides."""

import shutil

from regard.observe import Moments
from regard.observe.recorders import HeadRecorder, PlotJugglerRecorder, Recorder, Recorders, TensorBoardRecorder
from regard.records import Run
from regard.train.config import WatchConfig

__all__ = ["RunRecorders"]


class RunRecorders:
    """The recorders of a run as one; those beside ``heads.parquet`` begin when it is known where the run goes on.

    Args:
        run: the run.
        watching: which recorders; their files are in folders of their own in the run folder.
    """

    def __init__(self, run: Run, watching: WatchConfig) -> None:
        self._folder = run.folder
        self._watching = watching
        self._all: list[Recorder] = [HeadRecorder(run.heads)]

    def begin(self, step: int) -> None:
        """Open what the recipe names, and forget in it what came after ``step``, as training takes it again.

        Raises:
            MissingDependencyError: a recorder needs a package that is not installed.
        """
        if step == 0:
            for left in (self._folder / "tensorboard", self._folder / "plotjuggler"):
                if left.exists():
                    shutil.rmtree(left)
        if self._watching.tensorboard:
            purge_step = step + 1 if step else None
            self._all.append(TensorBoardRecorder(self._folder / "tensorboard", purge_step=purge_step))
        address = self._watching.plotjuggler
        if address is not False:
            udp = address if isinstance(address, str) else None
            self._all.append(PlotJugglerRecorder(self._folder / "plotjuggler", udp=udp))

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        """Give each the summary of one call."""
        Recorders(self._all).add(step, layer, statistics, moments)

    def flush(self) -> None:
        """Flush each."""
        Recorders(self._all).flush()

    def close(self) -> None:
        """Close each; closing twice is harmless."""
        Recorders(self._all).close()
