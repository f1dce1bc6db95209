"""What a forecaster has to beat: the last value, the last season, and a linear map that got a fair chance.

On many series no network beats the linear map, which takes seconds; the table always says so.

References:
    Zeng et al., Are Transformers effective for time series forecasting?, arXiv:2205.13504; Toner and Darlow, An
    analysis of linear time series forecasting models, arXiv:2403.14587 (the closed form).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from regard._errors import ArgumentError

__all__ = [
    "LINEAR_MAP",
    "REPEAT_LAST",
    "SEASONAL_NAIVE",
    "LinearMap",
    "fit_linear_map",
    "repeat_last",
    "seasonal_naive",
]

LINEAR_MAP = "linear map"
REPEAT_LAST = "repeat last"
SEASONAL_NAIVE = "seasonal naive"

_RIDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # times the mean square of an input
_CENTRES = ("last", "mean", "none")

_Windows = Float[np.ndarray, "windows input_len channels"]
_Forecasts = Float[np.ndarray, "windows horizon channels"]
_Square = Float[np.ndarray, "length length"]
Batches = Callable[[], Iterator[tuple[_Windows, _Forecasts]]]
"""Yields what windows read and what they are to forecast, a part at a time, from the start at every call."""


def repeat_last(inputs: _Windows, *, horizon: int) -> _Forecasts:
    """Forecast the last value throughout."""
    return np.repeat(inputs[:, -1:], horizon, axis=1)


def seasonal_naive(inputs: _Windows, *, horizon: int, season: int) -> _Forecasts:
    """Forecast the value one season earlier, and the last season again where that is not yet known.

    Raises:
        ArgumentError: a season below 1 or longer than what was read.
    """
    if not 1 <= season <= inputs.shape[1]:
        raise ArgumentError(f"season must lie between 1 and the {inputs.shape[1]} rows that are read, got {season}.")
    return inputs[:, inputs.shape[1] - season + np.arange(horizon) % season]


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """y = W (x - c) + c for each channel, one W for all; c is the last value read, the mean, or nothing.

    Attributes:
        weight: (horizon, input_len).
        centre: ``"last"``, ``"mean"`` or ``"none"``.
        details: how it was chosen; plain values that fit into JSON.
    """

    weight: Float[np.ndarray, "horizon input_len"]
    centre: str
    details: dict[str, Any]

    def __call__(self, inputs: _Windows) -> _Forecasts:
        """Return the forecasts of windows."""
        centre = _centre(inputs, self.centre)
        forecast: _Forecasts = np.einsum("hl,wlc->whc", self.weight, inputs - centre, optimize=True) + centre
        return forecast


def fit_linear_map(train: Batches, validation: Batches) -> LinearMap:
    """Fit linear maps by least squares, exactly, and keep the one with the smallest error on validation windows.

    Three centres and several strengths of ridge are tried. All of them, and their errors, follow from the second
    moments of the windows, which one pass over them takes; so there are no epochs, no rate and no seed.

    Args:
        train: windows to fit.
        validation: windows to choose by.

    Raises:
        ArgumentError: there is no window.
    """
    began = time.perf_counter()
    learnt, _ = _second_moments(train)
    held, count = _second_moments(validation)
    input_len = next(train())[0].shape[1]
    best: tuple[float, LinearMap] | None = None
    for centre in _CENTRES:
        change = _centring(len(learnt), input_len, centre)
        seen, judged = change.T @ learnt @ change, change.T @ held @ change
        for ridge, weight in _solutions(seen[:input_len, :input_len], seen[:input_len, input_len:]):
            error = _error(weight, judged) / count
            if best is None or error < best[0]:
                best = error, LinearMap(weight=weight, centre=centre, details={"centre": centre, "ridge": ridge})
    assert best is not None, "there are candidates"
    error, found = best
    found.details.update(
        parameters=int(found.weight.size),
        chosen_by="validation MSE",
        validation_mse=error,
        num_candidates=len(_CENTRES) * len(_RIDGES),
        seconds=round(time.perf_counter() - began, 2),
    )
    return found


def _second_moments(windows: Batches) -> tuple[_Square, int]:
    """Return the moments (input_len + horizon, same) of what is read and forecast, and how much was forecast."""
    total: _Square | None = None
    count = 0
    for inputs, targets in windows():
        both = np.concatenate([inputs, targets], axis=1, dtype=np.float64)
        rows = both.transpose(0, 2, 1).reshape(-1, both.shape[1])  # each channel of each window
        moments = rows.T @ rows
        total = moments if total is None else total + moments
        count += targets.size
    if total is None:
        raise ArgumentError("A linear map needs windows to be fitted and judged on, got none.")
    return total, count


def _centring(length: int, input_len: int, centre: str) -> _Square:
    """Return the matrix that takes the centre from a row of what is read and forecast."""
    change = np.eye(length)
    if centre == "last":
        change[input_len - 1] -= 1
    elif centre == "mean":
        change[:input_len] -= 1 / input_len
    return change


def _solutions(moments: _Square, products: Float[np.ndarray, "input_len horizon"]) -> Iterator[tuple[float, Any]]:
    """Yield each ridge and its weights (horizon, input_len)."""
    values, vectors = np.linalg.eigh(moments)
    turned = vectors.T @ products
    # With the last value as centre one input is 0 throughout; rounding decides what would be divided by.
    known = values > len(values) * np.finfo(np.float64).eps * values[-1]
    for ridge in _RIDGES:
        inverse = np.where(known, 1 / np.where(known, values + ridge * values.mean(), 1.0), 0.0)
        yield ridge, (vectors @ (inverse[:, None] * turned)).T


def _error(weight: Float[np.ndarray, "horizon input_len"], moments: _Square) -> float:
    """Return the sum of squared errors, |y|² - 2 y·Wx + |Wx|², of windows with these moments."""
    input_len = weight.shape[1]
    inputs, products = moments[:input_len, :input_len], moments[:input_len, input_len:]
    return float(
        np.trace(moments[input_len:, input_len:]) - 2 * np.sum(weight.T * products) + np.sum((weight @ inputs) * weight)
    )


def _centre(inputs: _Windows, centre: str) -> Any:
    if centre == "none":
        return 0.0
    return inputs[:, -1:] if centre == "last" else inputs.mean(1, keepdims=True)
