"""A trained forecaster, opened from its run folder and asked what comes next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regard._errors import ArgumentError, DataError, RecordError
from regard.data import Series, Standardizer, load_series
from regard.models import Forecaster, load_forecaster
from regard.records import Run
from regard.records.reading import read_json
from regard.train.forecasting.config import ForecastingConfig

__all__ = ["BAND", "Forecast", "TrainedForecaster", "error_band"]

BAND = 0.8
"""Share of the errors on validation windows that lie within the band of a forecast."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What comes after the last row of a series, in the units of its channels.

    Attributes:
        names: of the channels.
        times: (horizon,), at the usual step behind the last row.
        values: (horizon, channels).
        low: (horizon, channels), below which a tenth of the values fell in validation.
        high: (horizon, channels), above which a tenth fell.
        read: (input_len, channels), the rows that were read.
    """

    names: tuple[str, ...]
    times: _Floats
    values: _Floats
    low: _Floats
    high: _Floats
    read: _Floats


class TrainedForecaster:
    """Rows in, the rows after them out, in float32 on the CPU.

    Example:
        >>> forecaster = TrainedForecaster.open(Run.open("runs/forecaster"))  # doctest: +SKIP
        >>> forecaster.forecast(forecaster.load("load.csv")).values.shape  # doctest: +SKIP
        (24, 2)

    Args:
        model: reads standardised values.
        names: of the channels, in the order of the model.
        step: usual distance of two rows of the series that it was trained on.
        scaler: mean and standard deviation of its training rows.
        band: (2, horizon, channels), what a tenth of the errors in validation, truth less forecast, was below and what
            a tenth was above, in standard deviations.
        time: column of the times; None for the first.
    """

    def __init__(
        self,
        model: Forecaster,
        *,
        names: Sequence[str],
        step: float,
        scaler: Standardizer,
        band: _Floats,
        time: str | None = None,
    ) -> None:
        self.model = model.eval()
        self.names = tuple(names)
        self.step, self.scaler, self.band, self.time = step, scaler, band, time

    @classmethod
    def open(cls, run: Run) -> "TrainedForecaster":
        """Open the model that ``run`` trained.

        Raises:
            RecordError: the run is of another task, has not written its model yet, was made before forecasts had a
                band, or a file of it is damaged.
        """
        if run.info.task != ForecastingConfig.task:
            raise RecordError(f"A run of a forecaster is needed, got one of {run.info.task} in {run.folder}.")
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        folder = run.folder / "model"
        content: dict[str, Any] = read_json(folder / "series.json", "A forecast needs the scale of the channels")
        if "error_band" not in content:
            raise RecordError(f"{folder / 'series.json'} must hold the errors in validation, got none; train it again.")
        return cls(
            load_forecaster(folder),
            names=content["channels"],
            step=content["step"],
            scaler=Standardizer(mean=np.array(content["mean"]), scale=np.array(content["scale"])),
            band=np.array(content["error_band"]),
            time=ForecastingConfig.model_validate(run.info.config).data.time,
        )

    def load(self, path: str | Path) -> Series:
        """Read the channels of this model from a file; other columns are left alone.

        Raises:
            DataError: the file cannot be read, or a channel is absent.
        """
        return load_series(path, time=self.time, columns=self.names)

    def forecast(self, series: Series) -> Forecast:
        """Return what comes after the last row of ``series``.

        Raises:
            ArgumentError: other channels than the model's.
            DataError: too few rows, or rows at another distance than those that were learnt from.
        """
        if series.names != self.names:
            raise ArgumentError(f"The channels must be {', '.join(self.names)}, got {', '.join(series.names)}.")
        config = self.model.config
        if len(series.values) < config.input_len:
            raise DataError(
                f"A forecast reads {config.input_len} rows, got {len(series.values)} in {series.name}; give more of "
                "the past."
            )
        read = series.values[-config.input_len :]
        steps = np.diff(series.times[-config.input_len :])
        if not np.allclose(steps, self.step, rtol=1e-6):
            raise DataError(
                f"The {config.input_len} rows that are read must be {self.step:,.6g} apart, as those that were learnt "
                f"from, got distances of {steps.min():,.6g} to {steps.max():,.6g} in {series.name}; resample it."
            )
        inputs = torch.from_numpy(self.scaler.apply(read).astype(np.float32))
        with torch.inference_mode():
            found = self.model(inputs[None])[0].double().numpy()
        low, high = (self.scaler.undo(found + end) for end in self.band)
        return Forecast(
            names=self.names,
            times=series.times[-1] + self.step * np.arange(1, config.horizon + 1),
            values=self.scaler.undo(found),
            low=low,
            high=high,
            read=read,
        )


def error_band(forecasts: _Floats, truth: npt.NDArray[np.floating]) -> _Floats:
    """Return the ends of the middle ``BAND`` of the errors of each channel at each distance, (2, horizon, channels).

    Args:
        forecasts: (windows, horizon, channels).
        truth: likewise.
    """
    tail = (1 - BAND) / 2
    found: _Floats = np.quantile(truth - forecasts, [tail, 1 - tail], axis=0)
    return found
