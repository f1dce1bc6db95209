"""The loop is watched at every step, and a stopped run goes on to the same end."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.event_file_writer import AtomicCounter
from torch import nn

from regard import RegardError
from regard._errors import NumericError
from regard.modules import MultiHeadAttention
from regard.records import Run, Status
from regard.train import BatchLoss, Fit, OptimConfig, Silent, WatchConfig

OPTIM = OptimConfig(epochs=3, lr=1e-2)
WATCHING = WatchConfig(every_step=("entropy", "output_norm"), sometimes=("max_weight",), interval=3)


class TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"attention": MultiHeadAttention(8, 2)})
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.block["attention"](x))).squeeze(-1)


class TinyTask:
    """Predict the sum of each row; five batches an epoch."""

    def __init__(self, fail_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = TinyModel()
        self.inputs = torch.randn(20, 6, 8)
        self.num_losses = 0
        self.fail_at = fail_at
        self.stop_at: int | None = None

    def batches(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([7, epoch]).permutation(20)
        return [order[i : i + 4].tolist() for i in range(0, 20, 4)]

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        self.num_losses += 1
        if self.num_losses == self.stop_at:
            import signal

            signal.raise_signal(signal.SIGINT)
        x = self.inputs[list(batch)]
        loss = (self.model(x) - x.sum(-1)).square().mean()
        if self.num_losses == self.fail_at:
            loss = loss * torch.nan
        return BatchLoss(loss=loss, num_tokens=22, num_cells=24)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "lr": OPTIM.lr}]

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float((self.model(self.inputs) - self.inputs.sum(-1)).square().mean())}


def fit(
    run: Run, task: TinyTask, every_s: float = 1e9, watching: WatchConfig = WATCHING, **optim: Any
) -> dict[str, Any]:
    changed = OPTIM.model_copy(update=optim)
    job = Fit(task, run=run, optim=changed, watching=watching, checkpoint_every_s=every_s, progress=Silent())
    return job.run()


def trace(run: Run) -> list[tuple[Any, ...]]:
    """Everything that a step wrote, without times."""
    return [
        (event["event"], event["step"], event.get("loss"), event.get("grad_norm"), str(event.get("layers")))
        for event in run.events("step", "gradients", "validation")
    ]


def heads(run: Run) -> list[tuple[Any, ...]]:
    found = run.heads.query("SELECT step, layer, head, statistic, mean, q50 FROM heads ORDER BY ALL")
    return [tuple(map(str, row)) for row in zip(*found.values(), strict=True)]


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "whole", recipe="tiny")
    fit(run, TinyTask())
    return run


def test_every_step_is_recorded_and_watched(whole: Run) -> None:
    assert [event["step"] for event in whole.events("step")] == list(range(1, 16))
    assert [event["epoch"] for event in whole.events("validation")] == [1, 2, 3]
    steps = whole.heads.query("SELECT DISTINCT step FROM heads WHERE statistic = 'entropy' ORDER BY step")["step"]
    assert steps.tolist() == list(range(1, 16))
    sometimes = whole.heads.query("SELECT DISTINCT step FROM heads WHERE statistic = 'max_weight' ORDER BY step")[
        "step"
    ]
    assert sometimes.tolist() == [1, 4, 7, 10, 13]
    event = next(whole.events("step"))
    assert event["padding_share"] == pytest.approx(1 - 22 / 24, abs=1e-6)


def test_training_is_the_same_watched_or_not(whole: Run, tmp_path: Path) -> None:
    task = TinyTask()
    run = Run.create(tmp_path / "unwatched", recipe="tiny")
    job = Fit(task, run=run, optim=OPTIM, watching=WATCHING, checkpoint_every_s=1e9, progress=Silent())
    job._watch.start = lambda: job.view  # type: ignore[method-assign]
    job.run()
    assert trace(run) == trace(whole)
    assert not run.heads.exists


def test_validation_is_not_watched(whole: Run) -> None:
    rows = whole.heads.query("SELECT DISTINCT num_rows FROM heads")["num_rows"]
    assert rows.tolist() == [4 * 6]


@pytest.mark.parametrize("stop_at", [1, 4, 5, 12, 15])
def test_a_stopped_run_goes_on_to_the_same_end(whole: Run, tmp_path: Path, stop_at: int) -> None:
    run = Run.create(tmp_path / "stopped", recipe="tiny")
    task = TinyTask()
    task.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        fit(run, task)
    assert Run.open(run.folder).info.status is Status.INTERRUPTED
    totals = fit(Run.open(run.folder), TinyTask())
    (entry,) = totals["coverage"]
    assert (entry["seen"], entry["calls"], entry["reason"]) == (True, 15, None)
    assert trace(run) == trace(whole)
    assert heads(run) == heads(whole)
    assert totals["tokens"] == 15 * 22
    assert totals["kernels"] == {"_scaled_dot_product_flash_attention_for_cpu": 15}


def test_looks_within_an_epoch_change_nothing_but_their_own_events(whole: Run, tmp_path: Path) -> None:
    """Epochs of five steps, looked at after two, four and all five: same losses, same statistics, watched alike."""
    run = Run.create(tmp_path / "looked", recipe="tiny")
    fit(run, TinyTask(), validate_every=2)

    assert [event["step"] for event in run.events("validation")] == [2, 4, 5, 7, 9, 10, 12, 14, 15]
    assert [event["epoch"] for event in run.events("validation")] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [each for each in trace(run) if each[0] != "validation"] == [
        each for each in trace(whole) if each[0] != "validation"
    ]
    assert heads(run) == heads(whole)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 14])
def test_a_stopped_run_misses_no_look_within_an_epoch(tmp_path: Path, stop_at: int) -> None:
    whole = Run.create(tmp_path / "whole", recipe="tiny")
    fit(whole, TinyTask(), validate_every=2)
    run = Run.create(tmp_path / "stopped", recipe="tiny")
    task = TinyTask()
    task.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        fit(run, task, validate_every=2)
    fit(Run.open(run.folder), TinyTask(), validate_every=2)

    assert trace(run) == trace(whole)
    assert heads(run) == heads(whole)


class Killed(BaseException):
    pass


def dying_task(after: int) -> TinyTask:
    task = TinyTask()
    original = task.loss

    def dying(batch: Sequence[int]) -> BatchLoss:
        if task.num_losses == after:
            raise Killed
        return original(batch)

    task.loss = dying  # type: ignore[method-assign]
    return task


def test_a_killed_run_goes_on_from_its_last_checkpoint(whole: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "killed", recipe="tiny")
    with pytest.raises(Killed):
        fit(run, dying_task(after=8), every_s=0.0)
    assert [event["step"] for event in run.events("checkpoint")][-1] == 8
    fit(Run.open(run.folder), TinyTask(), every_s=0.0)
    assert trace(run) == trace(whole)
    assert heads(run) == heads(whole)


def test_a_loss_that_is_no_number_stops_the_run_and_says_so(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "nan", recipe="tiny")
    with pytest.raises(RegardError, match=r"finite numbers, got loss nan .* at step 3"):
        fit(run, TinyTask(fail_at=3))
    assert Run.open(run.folder).info.status is Status.FAILED
    assert list(run.events("step"))[-1]["loss"] is None


def test_batches_of_one_step_are_one_large_batch(tmp_path: Path) -> None:
    class Twice(TinyTask):
        """Every batch of the tiny task in two unequal parts."""

        def batches(self, epoch: int) -> list[list[int]]:
            return [part for batch in super().batches(epoch) for part in (batch[:1], batch[1:])]

        def loss(self, batch: Sequence[int]) -> BatchLoss:
            return replace(super().loss(batch), weight=len(batch))

    losses, tasks = [], (TinyTask(), Twice())
    for accumulate, task in enumerate(tasks, start=1):
        task.model.get_submodule("drop").p = 0.0  # type: ignore[assignment]
        run = Run.create(tmp_path / str(accumulate), recipe="tiny")
        fit(run, task, accumulate=accumulate)
        losses.append([event["loss"] for event in run.events("step")])
    assert len(losses[0]) == 15
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_average_of_the_weights_is_validated_and_kept_and_survives_a_stop(tmp_path: Path) -> None:
    runs = [Run.create(tmp_path / name, recipe="tiny") for name in ("plain", "whole", "stopped")]
    fit(runs[0], plain := TinyTask())
    fit(runs[1], whole := TinyTask(), ema=0.8)
    stopped = TinyTask()
    stopped.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        fit(runs[2], stopped, ema=0.8)
    resumed = TinyTask()
    fit(Run.open(runs[2].folder), resumed, ema=0.8)
    assert [event["loss"] for event in runs[0].events("step")] == [event["loss"] for event in runs[1].events("step")]
    assert trace(runs[1]) == trace(runs[2])
    assert whole.validate() == resumed.validate()
    assert whole.validate()["loss"] == list(runs[1].events("validation"))[-1]["loss"]
    assert whole.validate() != plain.validate()


def test_a_guarded_run_is_the_same_run(whole: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "guarded", recipe="tiny")
    fit(run, TinyTask(), watching=WATCHING.model_copy(update={"guard": "raise"}))
    assert trace(run) == trace(whole)
    assert heads(run) == heads(whole)


def test_a_guarded_run_ends_where_attention_is_not_finite(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "ended", recipe="tiny")
    task = TinyTask()
    with torch.no_grad():
        next(iter(task.model.parameters())).view(-1)[0] = torch.nan
    with pytest.raises(NumericError, match=r"Step 1, layer block\.attention.*the parameter "):
        fit(run, task, watching=WATCHING.model_copy(update={"guard": "raise"}))
    assert Run.open(run.folder).info.status is Status.FAILED
    assert list(run.events("step")) == []


RECORDED = WATCHING.model_copy(update={"tensorboard": True, "plotjuggler": True})


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_recorders_of_the_recipe_write_into_the_run_folder(whole: Run, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "recorded", recipe="tiny")
    fit(run, TinyTask(), watching=RECORDED)
    assert trace(run) == trace(whole)
    assert heads(run) == heads(whole)
    assert len(heads(run)) == 15 * 2 * 2 + 5 * 2
    found = run.heads.query("SELECT step, mean FROM heads WHERE statistic = 'entropy' AND head = 1 ORDER BY step")
    expected = list(zip(found["step"].tolist(), found["mean"].tolist(), strict=True))
    np.testing.assert_allclose(scalars(run)["entropy/block.attention/head1"], expected, rtol=1e-6)
    header, *rows = (run.folder / "plotjuggler" / "curves.csv").read_text().splitlines()
    column = header.split(",").index("block/attention/head1/entropy")
    told = [(int(row.split(",")[0]), float(row.split(",")[column])) for row in rows]
    np.testing.assert_allclose(told, expected, rtol=1e-6)


@pytest.mark.parametrize("killed_after", [3, 8])
def test_recorders_of_a_killed_run_go_on_without_a_step_twice(
    tmp_path: Path, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its first checkpoint, at step 5, the run starts over; after it, steps are taken again."""
    # Files of one process and second are in the order of this number as text: keep it at three digits.
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", AtomicCounter(100))
    once, again = (Run.create(tmp_path / name, recipe="tiny") for name in ("once", "again"))
    fit(once, TinyTask(), watching=RECORDED)
    with pytest.raises(Killed):
        fit(again, dying_task(killed_after), watching=RECORDED)
    fit(again, TinyTask(), watching=RECORDED)
    assert (again.folder / "checkpoint.pt").exists()
    assert heads(again) == heads(once)
    assert scalars(again) == scalars(once)
    curves = [(run.folder / "plotjuggler" / "curves.csv").read_bytes() for run in (again, once)]
    assert curves[0] == curves[1]


def test_recorders_are_closed_also_when_training_fails(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "nan", recipe="tiny")
    with pytest.raises(RegardError, match="finite numbers"):
        fit(run, TinyTask(fail_at=3), watching=RECORDED)
    assert (run.folder / "plotjuggler" / "curves.parquet").exists()  # written at the close
