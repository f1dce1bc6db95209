"""From a series to audited splits of standardised windows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.data import ForecastWindows, Series, Standardizer, load_series, split_series
from regard.records import Run
from regard.train.forecasting.config import ForecasterModel, SeriesConfig

__all__ = ["SeriesData", "build_series"]

_SEASONS = {60.0: 1440, 600.0: 144, 900.0: 96, 1800.0: 48, 3600.0: 24, 86400.0: 7, 604800.0: 52}
"""Seconds of a step -> steps of the season that such series usually have: a day, a week, a year."""


@dataclass(frozen=True, kw_only=True)
class SeriesData:
    """The series of one job.

    Attributes:
        series: as it was read.
        rows: split -> its rows.
        scaler: measured on the training rows.
        windows: split -> its windows of standardised float32 values.
        season: rows of a season.
        audit: content of ``audit.json``.
    """

    series: Series
    rows: dict[str, range]
    scaler: Standardizer
    windows: dict[str, ForecastWindows]
    season: int
    audit: dict[str, Any]

    def standardized(self, split: str) -> npt.NDArray[np.float64]:
        """Return the standardised rows of ``split``."""
        rows = self.rows[split]
        return self.scaler.apply(self.series.values[rows.start : rows.stop])


def build_series(config: SeriesConfig, model: ForecasterModel, *, run: Run) -> SeriesData:
    """Load, split, standardise and cut into windows; write ``audit.json`` and ``split.json``.

    Raises:
        DataError: a file, column, value or split that cannot be used.
        ArgumentError: sizes that do not fit the series.
    """
    assert config.path is not None, "the config refuses a series without a path"
    series = load_series(config.path, time=config.time, columns=config.columns, split=config.split)
    rows = split_series(
        series, sizes=config.sizes, validation_share=config.validation_share, test_share=config.test_share
    )
    train = series.values[rows["train"].start : rows["train"].stop]
    scaler = Standardizer.of(train, series.names)
    values = scaler.apply(series.values).astype(np.float32)
    windows = {
        name: ForecastWindows.of(values, part, input_len=model.input_len, horizon=model.horizon)
        for name, part in rows.items()
    }
    season = config.season or _SEASONS.get(series.step, 1)
    content = _audit(series, rows, windows, season, is_guess=config.season is None)
    if not run.has("audit"):
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    run.write("split", {name: _fingerprint(series, part) for name, part in rows.items()})
    return SeriesData(series=series, rows=rows, scaler=scaler, windows=windows, season=season, audit=content)


def _audit(
    series: Series,
    rows: Mapping[str, range],
    windows: Mapping[str, ForecastWindows],
    season: int,
    *,
    is_guess: bool,
) -> dict[str, Any]:
    """Return plain values; a row of this task is a window."""
    splits = {
        name: {
            "num_rows": len(windows[name]),
            "num_times": len(part),
            "first": _moment(series.times[part.start]),
            "last": _moment(series.times[part.stop - 1]),
        }
        for name, part in rows.items()
    }
    return {
        "schema_version": 1,
        "source": {"name": series.name, "files": list(series.files)},
        "splits": splits,
        "channels": list(series.names),
        "step": series.step,
        "season": season,
        "summary": _summary(series, splits, season, is_guess),
        "warnings": _warnings(series, rows, season, is_guess),
    }


def _summary(series: Series, splits: Mapping[str, Any], season: int, is_guess: bool) -> list[str]:
    sizes = ", ".join(
        f"{name} {split['num_times']:,} ({split['num_rows']:,} windows)" for name, split in splits.items()
    )
    spans = "; ".join(f"{name} {split['first']} to {split['last']}" for name, split in splits.items())
    guess = ", guessed from the step" if is_guess else ""
    return [
        f"Rows: {sizes}; {len(series.names)} channels: {', '.join(series.names)}.",
        f"Time: {spans}; the past first, nothing shuffled.",
        f"Step: {series.step:,.6g} (seconds, where the times are dates); a season has {season} rows{guess}.",
        "Scale: each channel has mean 0 and standard deviation 1 over the training rows.",
    ]


def _warnings(series: Series, rows: Mapping[str, range], season: int, is_guess: bool) -> list[str]:
    found = []
    if series.num_irregular:
        found.append(
            f"Of {len(series.times):,} rows, {series.num_irregular:,} do not follow at the usual step; windows take "
            "rows as they come, so fill the gaps if time matters."
        )
    if is_guess and season == 1:
        found.append("No season is known for this step, so MASE is in units of the last value; set data.season=ROWS.")
    unused = len(series.times) - rows["test"].stop
    if unused:
        found.append(f"The last {unused:,} rows are in no split and were not used.")
    train, test = (series.values[rows[name].start : rows[name].stop] for name in ("train", "test"))
    shift = np.abs(test.mean(0) - train.mean(0)) / train.std(0)
    far = [f"{name} ({moved:.1f})" for name, moved in zip(series.names, shift, strict=True) if moved > 1]
    if far:
        found.append(
            f"The mean of the test rows lies more than a standard deviation from that of the training rows in "
            f"{', '.join(far)}; what was learnt of levels will not hold there."
        )
    return found


def _moment(time: float) -> str:
    """Return a date, or a number that cannot be one of the last decades as it is."""
    if time < 1e8:  # before 1973: a number that counts something else
        return f"{time:g}"
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


def _fingerprint(series: Series, rows: range) -> dict[str, Any]:
    values = np.ascontiguousarray(series.values[rows.start : rows.stop])
    return {
        "num_rows": len(rows),
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "rows": [[rows.start, rows.stop - 1]],
    }
