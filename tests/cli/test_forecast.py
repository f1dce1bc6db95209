"""`regard forecast` from a run folder and a file to a table and a drawing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regard.models import Forecaster, ForecasterConfig, save_forecaster
from regard.records import Run
from regard.train import configure

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return 20 hours of two channels."""
    rows = [f"2020-01-01 {hour:02d}:00,{hour},{-hour}" for hour in range(20)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(["date,north,south", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(file: Path, tmp_path: Path) -> Run:
    """Return the folder of a run whose model has seeded weights; its errors were from -1 to 2 deviations."""
    config = configure("forecaster", [f"data.path={file}"])
    run = Run.create(tmp_path / "run", recipe="forecaster", task="forecasting", config=config.to_dict())
    torch.manual_seed(0)
    save_forecaster(Forecaster(ForecasterConfig(input_len=16, horizon=3, patch_len=8, stride=8)), run.folder / "model")
    band = np.stack([np.full((3, 2), -1.0), np.full((3, 2), 2.0)])
    content = {"channels": ["north", "south"], "step": 3600.0, "mean": [0.0, 0.0], "scale": [1.0, 10.0]}
    (run.folder / "model" / "series.json").write_text(json.dumps(content | {"error_band": band.tolist()}))
    run.event("trained", steps=0)
    return run


def test_a_table_and_a_drawing(run: Run, file: Path, tmp_path: Path, regard_command: Command) -> None:
    code, out, err = regard_command("forecast", run.folder, file, "--svg", tmp_path / "next.svg")

    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "time,north,north_low,north_high,south,south_low,south_high"
    assert [line.split(",")[0] for line in lines[1:]] == [f"2020-01-01 {hour}:00:00" for hour in (20, 21, 22)]
    values = np.array([[float(value) for value in line.split(",")[1:]] for line in lines[1:]])
    np.testing.assert_allclose(values[:, [1, 2, 4, 5]] - values[:, [0, 0, 3, 3]], [[-1, 2, -10, 20]] * 3, atol=1e-3)
    assert (tmp_path / "next.svg").read_text().count("<polygon") == 2
    code, out, _ = regard_command("forecast", run.folder, file, "--out", tmp_path / "next.csv")
    assert (code, out) == (0, "")
    assert (tmp_path / "next.csv").read_text().splitlines() == lines


def test_runs_without_a_forecaster_are_one_sentence(
    run: Run, file: Path, tmp_path: Path, regard_command: Command
) -> None:
    other = Run.create(tmp_path / "other", recipe="demo", task="text classification")
    code, _, err = regard_command("forecast", other.folder, file)
    assert code == 1
    assert "A run of a forecaster is needed, got one of text classification" in err

    untrained = Run.create(tmp_path / "untrained", recipe="forecaster", task="forecasting")
    code, _, err = regard_command("forecast", untrained.folder, file)
    assert code == 1
    assert "got a run without one" in err

    (run.folder / "model" / "series.json").write_text("{")
    code, _, err = regard_command("forecast", run.folder, file)
    assert code == 1
    assert "series.json must hold JSON, got something else" in err
