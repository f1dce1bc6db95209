"""The job of a forecaster."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.data import ForecastWindows
from regard.evaluate import (
    FORECAST_METRICS,
    LINEAR_MAP,
    REPEAT_LAST,
    SEASONAL_NAIVE,
    RowSums,
    fit_linear_map,
    forecast_sums,
    naive_scale,
    repeat_last,
    rows_of_sums,
    score_forecasts,
    seasonal_naive,
)
from regard.models import (
    Forecaster,
    ForecasterConfig,
    count_parameters,
    load_forecaster,
    save_forecaster,
    width_for,
)
from regard.records import Checks, Run, write_json
from regard.train.forecasting.config import ForecasterModel, ForecastingConfig
from regard.train.forecasting.dataset import SeriesData, build_series
from regard.train.forecasting.inference import error_band
from regard.train.forecasting.task import ForecastTask
from regard.train.job import Job
from regard.train.progress import Progress

__all__ = ["ForecasterJob", "new_forecaster"]

_NAMES = {"transformer": "patch Transformer", "gru": "GRU", "lstm": "LSTM"}
_WINDOWS_AT_ONCE = 512


class ForecasterJob(Job[ForecastingConfig, Forecaster]):
    """Trains a forecaster on a numeric series; see ``Job``."""

    contenders = "the model, a linear map, the last season, the last value"

    def __init__(self, config: ForecastingConfig, run: Run, progress: Progress | None = None) -> None:
        super().__init__(config, run, progress)
        self._data: SeriesData | None = None

    def check(self) -> Checks | None:
        """Prove the laws of attention, where the model attends."""
        if self._config.model.architecture != "transformer":
            return None
        return super().check()

    def _load_data(self) -> dict[str, Any]:
        self._data = build_series(self._config.data, self._config.model, run=self._run)
        return self._data.audit

    def _model_name(self) -> str:
        model = self._config.model
        layers = "1 layer" if model.num_layers == 1 else f"{model.num_layers} layers"
        width = f" and width {model.embed_dim}" if model.architecture == "transformer" else ""
        return f"{_NAMES[model.architecture]} of {layers}{width}"

    def _new_model(self) -> Forecaster:
        return new_forecaster(self._config.model, len(self._ready().series.names))

    def _load_model(self, folder: Path) -> Forecaster:
        return load_forecaster(folder)

    def _save_model(self, model: Forecaster, folder: Path) -> None:
        save_forecaster(model, folder)
        data = self._ready()
        scale = {"mean": data.scaler.mean.tolist(), "scale": data.scaler.scale.tolist()}
        windows = data.windows["validation"]
        band = error_band(self._task(model).predict(windows), windows.targets(np.arange(len(windows))))
        content = {"channels": data.series.names, "step": data.series.step, **scale, "error_band": band.tolist()}
        write_json(folder / "series.json", content)

    def _task(self, model: Forecaster) -> ForecastTask:
        config = self._config
        return ForecastTask(model, self._ready(), optim=config.optim, seed=config.seed, hardware=self._hardware)

    def _score(self, model: Forecaster) -> dict[str, Any]:
        data = self._ready()
        scale = naive_scale(data.standardized("train"), season=data.season)
        windows = data.windows["test"]
        truth = windows.targets(np.arange(len(windows))).astype(np.float64)
        rows: list[RowSums] = []

        def add(name: str, kind: str, forecast: npt.NDArray[Any], **details: Any) -> None:
            rows.append(forecast_sums(name, kind, forecast, truth, scale=scale, details=details))

        began = time.perf_counter()
        forecast = self._task(model).predict(windows)
        details = {
            "parameters": count_parameters(model),
            "seconds": round(time.perf_counter() - began, 2),
            "band_coverage": self._coverage(forecast, truth),
        }
        add(self._model_name(), "model", forecast, **details)
        self._progress.say("Fitting the linear map …")
        linear = fit_linear_map(lambda: _parts(data.windows["train"]), lambda: _parts(data.windows["validation"]))
        inputs = windows.inputs(np.arange(len(windows))).astype(np.float64)
        add(LINEAR_MAP, "baseline", linear(inputs), **linear.details)
        if data.season > 1:
            forecast = seasonal_naive(inputs, horizon=windows.horizon, season=data.season)
            add(SEASONAL_NAIVE, "baseline", forecast, season=data.season)
        add(REPEAT_LAST, "baseline", repeat_last(inputs, horizon=windows.horizon))
        block_len = min(2 * windows.horizon, len(windows))
        self._run.write("rows", rows_of_sums(FORECAST_METRICS[0], rows, block_len=block_len))
        return score_forecasts(rows, block_len=block_len)

    def _coverage(self, forecast: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]) -> float:
        """Return the share of the test values that lie within the band that validation gave."""
        content = json.loads((self._run.folder / "model" / "series.json").read_text(encoding="utf-8"))
        low, high = np.array(content["error_band"])
        return float(((truth - forecast >= low) & (truth - forecast <= high)).mean())

    def _checked(self, folder: Path) -> tuple[nn.Module, str]:
        """Return the encoder of the patches, whose outputs are one vector per patch, which the laws speak of."""
        origin = f"from regard.models import load_forecaster\nload_forecaster({str(folder)!r}).encoder"
        return load_forecaster(folder).encoder, origin

    def _ready(self) -> SeriesData:
        if self._data is None:
            raise ArgumentError("A job must prepare its series before it trains or evaluates; call prepare().")
        return self._data


def _parts(windows: ForecastWindows) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    for first in range(0, len(windows), _WINDOWS_AT_ONCE):
        which = np.arange(first, min(first + _WINDOWS_AT_ONCE, len(windows)))
        yield windows.inputs(which), windows.targets(which)


def new_forecaster(model: ForecasterModel, num_channels: int) -> Forecaster:
    """Return the model before its first step.

    Args:
        model: its sizes.
        num_channels: of the series.

    Raises:
        ArgumentError: no width of a recurrent network gives the Transformer's parameter count.
    """
    config = ForecasterConfig(
        **model.model_dump(exclude={"affine"}), num_channels=num_channels if model.affine else None
    )
    if config.architecture == "transformer" or config.hidden_dim is not None:
        return Forecaster(config)
    with torch.device("meta"):
        wanted = count_parameters(Forecaster(replace(config, architecture="transformer")))
    width = width_for(wanted, lambda width: Forecaster(replace(config, hidden_dim=width)))
    return Forecaster(replace(config, hidden_dim=width))
