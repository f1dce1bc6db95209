"""The task of forecasting, as the training loop sees it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from regard.data import ForecastWindows, OriginBatches
from regard.models import Forecaster
from regard.train.config import OptimConfig
from regard.train.forecasting.dataset import SeriesData
from regard.train.groups import decayed_groups
from regard.train.hardware import Hardware
from regard.train.loop import BatchLoss

__all__ = ["ForecastTask"]

_EVALUATION_WINDOWS = 256


class ForecastTask:
    """A forecaster, its windows and the mean squared error; implements ``Task``.

    Args:
        model: forecasts (batch, horizon, channels).
        data: windows of the splits.
        optim: batch size, learning rate and weight decay.
        seed: of the batches.
        hardware: device and autocast type.
    """

    def __init__(
        self, model: Forecaster, data: SeriesData, *, optim: OptimConfig, seed: int, hardware: Hardware
    ) -> None:
        self.model = model.to(hardware.device)
        self._windows = data.windows
        self._optim = optim
        self._hardware = hardware
        self._batches = OriginBatches(len(data.windows["train"]), batch_size=optim.batch_size, seed=seed)

    def batches(self, epoch: int) -> list[list[int]]:
        """Return batches of windows in a random order."""
        return self._batches.batches(epoch)

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        """Return the mean squared error of ``batch``, of standardised values; tokens are patches."""
        train = self._windows["train"]
        inputs, targets = train.inputs(batch), train.targets(batch)
        loss = F.mse_loss(self._forecast(inputs).float(), torch.from_numpy(targets).to(self._hardware.device))
        patches = len(batch) * inputs.shape[2] * self.model.config.num_patches
        return BatchLoss(loss=loss, num_tokens=patches, num_cells=patches, weight=len(batch))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's groups, with and without weight decay."""
        return decayed_groups(self.model, lr=self._optim.lr, weight_decay=self._optim.weight_decay)

    def validate(self) -> dict[str, float]:
        """Return the mean squared and absolute error on the validation windows."""
        windows = self._windows["validation"]
        error = self.predict(windows) - windows.targets(np.arange(len(windows)))
        return {"loss": float(np.square(error).mean()), "mae": float(np.abs(error).mean())}

    def predict(self, windows: ForecastWindows) -> npt.NDArray[np.float64]:
        """Return the forecasts of all windows, (windows, horizon, channels), of standardised values."""
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            numbers = torch.arange(len(windows)).split(_EVALUATION_WINDOWS)
            parts = [self._forecast(windows.inputs(some.numpy())).double() for some in numbers]
        self.model.train(was_training)
        forecasts: npt.NDArray[np.float64] = torch.cat(parts).cpu().numpy()
        return forecasts

    def _forecast(self, inputs: npt.NDArray[Any]) -> Tensor:
        device = self._hardware.device
        autocast = self._hardware.precision != torch.float32
        with torch.autocast(device.type, dtype=self._hardware.precision, enabled=autocast):
            forecast: Tensor = self.model(torch.from_numpy(inputs).to(device))
        return forecast
