"""What a forecaster reads of a series: standardised by the past alone, in windows, each with what it is to forecast."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError

__all__ = ["ForecastWindows", "OriginBatches", "Standardizer"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Standardizer:
    """Mean and standard deviation of each channel, to be taken from training rows only.

    Statistics of the whole series would tell the model how the test rows lie.

    Attributes:
        mean: (channels,).
        scale: (channels,), above 0.
    """

    mean: _Floats
    scale: _Floats

    @classmethod
    def of(cls, values: _Floats, names: Sequence[str]) -> "Standardizer":
        """Measure ``values`` (times, channels).

        Raises:
            DataError: a channel does not vary, so that there is nothing to scale or to forecast.
        """
        scale = values.std(0)
        constant = [name for name, deviation in zip(names, scale, strict=True) if deviation == 0]
        if constant:
            raise DataError(
                f"A channel must vary over the training rows, got one value throughout in {', '.join(constant)}; "
                "name the columns to use."
            )
        return cls(mean=values.mean(0), scale=scale)

    def apply(self, values: _Floats) -> _Floats:
        """Return values of mean 0 and standard deviation 1 over the training rows."""
        return (values - self.mean) / self.scale

    def undo(self, values: _Floats) -> _Floats:
        """Return values in their own unit."""
        return values * self.scale + self.mean


@dataclass(frozen=True, kw_only=True)
class ForecastWindows:
    """The windows of one split. A window is named by its origin, the first row to be forecast.

    What is forecast lies in the split; what is read may reach back into the splits before, as it may in use.

    Attributes:
        values: (times, channels) of the whole series.
        input_len: rows that are read before the origin.
        horizon: rows that are forecast.
        origins: int64, rising.
    """

    values: npt.NDArray[np.floating]
    input_len: int
    horizon: int
    origins: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.floating], rows: range, *, input_len: int, horizon: int) -> "ForecastWindows":
        """Return every window of the split of ``rows``.

        Raises:
            ArgumentError: a length below 1.
            DataError: the split is too short for one window.
        """
        if min(input_len, horizon) < 1:
            raise ArgumentError(f"input_len and horizon must be at least 1, got {input_len} and {horizon}.")
        first = max(rows.start, input_len)
        origins = np.arange(first, rows.stop - horizon + 1)
        if not len(origins):
            raise DataError(
                f"A split must have room for {horizon} rows to forecast"
                f"{f' behind {input_len} to read' if rows.start == 0 else ''}, got {len(rows)}; shorten the window."
            )
        return cls(values=values, input_len=input_len, horizon=horizon, origins=origins)

    def __len__(self) -> int:
        return len(self.origins)

    def inputs(self, which: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """Return what the windows of these numbers read, (windows, input_len, channels)."""
        read: npt.NDArray[np.floating] = self.values[self.origins[which][:, None] + np.arange(-self.input_len, 0)]
        return read

    def targets(self, which: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """Return what they are to forecast, (windows, horizon, channels)."""
        due: npt.NDArray[np.floating] = self.values[self.origins[which][:, None] + np.arange(self.horizon)]
        return due


class OriginBatches:
    """Batches of windows in a random order; within a window time stays as it is.

    Args:
        num_windows: windows to train on.
        batch_size: windows in a batch; the last one of an epoch may be smaller.
        seed: the same seed gives the same batches.
    """

    def __init__(self, num_windows: int, *, batch_size: int, seed: int = 0) -> None:
        if min(num_windows, batch_size) < 1:
            raise ArgumentError(f"num_windows and batch_size must be at least 1, got {num_windows} and {batch_size}.")
        self._num_windows, self._batch_size, self._seed = num_windows, batch_size, seed

    def batches(self, epoch: int) -> list[list[int]]:
        """Return the batches of ``epoch`` (from 0): every window once."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self._num_windows)
        return [order[first : first + self._batch_size].tolist() for first in range(0, len(order), self._batch_size)]
