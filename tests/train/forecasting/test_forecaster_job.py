"""The job of a forecaster on a small series: it learns, stands beside its baselines, and goes on where it stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regard import RegardError
from regard.data import load_series
from regard.diagnose import diagnose
from regard.models import load_forecaster
from regard.readiness import judge
from regard.records import Run
from regard.train import RECIPES, TrainedForecaster, configure, make_job
from regard.train.forecasting.inference import error_band
from regard.viewer import write_report


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 500 hours of two noisy daily waves."""
    generator = np.random.default_rng(0)
    hours = np.arange(500)
    waves = np.sin(2 * np.pi * hours[:, None] / 24 + np.array([0, 1])) + 0.1 * generator.normal(size=(500, 2))
    file = tmp_path_factory.mktemp("series") / "waves.csv"
    rows = [f"{np.datetime64('2020-01-01') + np.timedelta64(hour, 'h')},{a},{b}" for hour, (a, b) in enumerate(waves)]
    file.write_text("\n".join(["date,north,south", *rows]) + "\n", encoding="utf-8")
    return file


def settings(path: Path, *more: str) -> list[str]:
    small = ["model.input_len=48", "model.horizon=12", "model.patch_len=8", "model.stride=8", "model.embed_dim=8"]
    return [f"data.path={path}", *small, "model.num_heads=2", "optim.epochs=2", "optim.batch_size=64", *more]


def trained(folder: Path, values: list[str]) -> Run:
    config = configure("forecaster", values)
    run = Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict(), seeds={"seed": 0})
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    job.check()
    job.finish()
    return run


@pytest.fixture(scope="module")
def run(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("runs") / "waves", settings(path))


def values(run: Run) -> dict[str, dict[str, Any]]:
    return {
        model["name"]: {name: one["value"] for name, one in model["metrics"].items()}
        for model in run.read("metrics")["models"]
    }


def test_the_model_stands_beside_its_baselines(run: Run) -> None:
    found = values(run)

    assert list(found) == ["patch Transformer of 2 layers and width 8", "linear map", "seasonal naive", "repeat last"]
    assert found["linear map"]["mse"] < 0.1 < found["repeat last"]["mse"]
    assert found["seasonal naive"]["mase"] == pytest.approx(1.0, abs=0.2)
    assert run.read("metrics")["num_rows"] == run.read("audit")["splits"]["test"]["num_rows"] == 89


def test_the_audit_says_when_and_how_much(run: Run) -> None:
    audit = run.read("audit")

    assert audit["splits"]["train"] == {
        "num_rows": 291, "num_times": 350, "first": "2020-01-01 00:00", "last": "2020-01-15 13:00"
    }  # fmt: skip
    assert (audit["season"], audit["warnings"]) == (24, [])
    assert [split["rows"] for split in run.read("split").values()] == [[[0, 349]], [[350, 399]], [[400, 499]]]


def test_losses_fall_and_attention_is_watched_and_checked(run: Run) -> None:
    losses = [event["loss"] for event in run.events("step")]

    assert losses[-1] < losses[0]
    assert [entry["seen"] for entry in run.info.coverage] == [True, True]
    assert run.checks().ok


def test_the_saved_model_knows_its_scale(run: Run) -> None:
    series = json.loads((run.folder / "model" / "series.json").read_text())

    assert series["channels"] == ["north", "south"]
    assert load_forecaster(run.folder / "model").config.horizon == 12
    assert len(series["mean"]) == len(series["scale"]) == 2


def test_run_can_be_judged_and_reported(run: Run) -> None:
    diagnosis = diagnose(run)
    run.write_findings(diagnosis.findings)
    run.write_readiness(judge(run))

    page = write_report(run).read_text(encoding="utf-8")

    assert "MASE" in page
    assert "windows" in page
    assert {item.id for item in run.readiness()} >= {"data.disjoint", "model.beats_naive"}


def test_same_seed_gives_the_same_run_and_another_does_not(run: Run, path: Path, tmp_path: Path) -> None:
    again, other = trained(tmp_path / "again", settings(path)), trained(tmp_path / "other", settings(path, "seed=1"))
    losses = [[event["loss"] for event in one.events("step")] for one in (run, again, other)]

    assert losses[0] == losses[1] != losses[2]
    assert values(again) == values(run)


@pytest.mark.parametrize("architecture", ["gru", "lstm"])
def test_a_recurrent_forecaster_is_the_same_job(architecture: str, path: Path, tmp_path: Path) -> None:
    found = trained(tmp_path / "run", settings(path, f"model.architecture={architecture}"))

    assert next(iter(values(found))) == f"{architecture.upper()} of 2 layers"
    assert not found.has("checks")
    assert found.info.coverage == []


def test_recipe_needs_a_path_and_survives_json() -> None:
    with pytest.raises(RegardError, match=r"data\.path"):
        configure("forecaster")
    config = configure("forecaster", ["data.path=series.csv", "data.sizes=[8640,2880,2880]"])
    assert RECIPES["forecaster"].config.model_validate(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("model.embed_dim=9", "multiple of model.num_heads, got 9 and 2"),
        ("model.patch_len=64", "patch_len must be at most model.input_len"),
        ("model.architecture=cnn", "model.architecture: Input should be"),
        ("data.test_share=0.7", "data.test_share: Input should be less than 0.5"),
    ],
)
def test_wrong_settings_are_named(path: Path, wrong: str, message: str) -> None:
    with pytest.raises(RegardError, match=message):
        configure("forecaster", settings(path, wrong))


def test_the_trained_forecaster_says_what_the_job_said(run: Run, path: Path, tmp_path: Path) -> None:
    """A file that ends where a test window begins gets the forecast of that window; the wave goes on as it does."""
    lines = path.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.csv"
    cut.write_text("".join(lines[: 1 + 440]))
    forecaster = TrainedForecaster.open(Run.open(run.folder))

    found = forecaster.forecast(forecaster.load(cut))

    truth = load_series(path)
    assert found.times.tolist() == truth.times[440:452].tolist()
    assert found.values.shape == found.low.shape == found.high.shape == (12, 2)
    assert (found.low < found.high).all()
    scaled = forecaster.scaler.apply(truth.values[392:440])
    again = forecaster.model(torch.from_numpy(scaled.astype(np.float32))[None])[0].detach().double().numpy()
    np.testing.assert_allclose(found.values, forecaster.scaler.undo(again), rtol=1e-5)


def test_the_band_holds_most_of_the_test(run: Run) -> None:
    [model] = [one for one in run.read("metrics")["models"] if one["kind"] == "model"]

    assert 0.6 < model["details"]["band_coverage"] < 0.95  # 0.8 of the errors in validation


def test_a_band_is_the_middle_of_the_errors() -> None:
    errors = np.arange(101.0)[:, None, None] * np.array([1.0, -1.0])

    np.testing.assert_allclose(error_band(np.zeros((101, 1, 2)), errors), [[[10.0, -90.0]], [[90.0, -10.0]]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:30], "A forecast reads 48 rows, got 29"),
        (lambda lines: [lines[0], *lines[1::2]], "must be 3,600 apart.*got distances of 7,200"),
        (lambda lines: ["date,north,east\n", *lines[1:]], "south"),
    ],
)
def test_a_file_that_cannot_be_forecast_is_refused(
    run: Run, path: Path, tmp_path: Path, change: Any, message: str
) -> None:
    lines = path.read_text().splitlines(keepends=True)
    file = tmp_path / "file.csv"
    file.write_text("".join(change(lines)))
    forecaster = TrainedForecaster.open(Run.open(run.folder))
    with pytest.raises(RegardError, match=message):
        forecaster.forecast(forecaster.load(file))
