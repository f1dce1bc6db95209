"""A session counts batches under their step, writes events in their order, and ends once."""

from pathlib import Path

import pytest
import torch

from regard import RegardError
from regard.modules import MultiHeadAttention
from regard.observe.callbacks.layer_means import LayerMeans
from regard.observe.callbacks.run_folder import RunFolder, TrainingFacts
from regard.observe.callbacks.session import Session
from regard.observe.moments import Moments
from regard.records import Run, Status

FACTS = TrainingFacts(recipe="test", config={}, seeds={}, precision="float32", device=torch.device("cpu"))


class Kept:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[int, Moments]] = []

    def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
        self.given.append((step, moments))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_batches_of_one_step_draw_different_rows() -> None:
    model, kept = MultiHeadAttention(8, 2), Kept()
    session = Session(model, options={"statistics": ["entropy"], "rows": 2}, recorders=[kept], folder=None, step=0)
    batch = torch.randn(1, 64, 8)
    for _ in range(2):
        session.begin_step(1)
        with session.watching():
            model(batch)
    (first, one), (second, other) = kept.given
    assert first == second == 1
    assert not torch.equal(one.total, other.total)


def test_a_validation_stands_behind_the_steps_before_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, FACTS, step=0)
    session = Session(MultiHeadAttention(8, 2), options={}, recorders=[], folder=folder, step=0)
    for step in (1, 2):
        session.begin_step(step)
        session.add_loss(torch.tensor(0.5))
        session.end_step(share=step == 2)
    session.tell(2, grad_norm=3.0)
    session.end_validation(2, 1, {"loss": 0.4})
    session.finish()
    session.end_validation(2, 1, {"loss": 0.4})  # after training: not of it
    found = [(event["event"], event["step"], event.get("grad_norm")) for event in folder.run.events()]
    assert found == [("step", 1, None), ("step", 2, 3.0), ("validation", 2, None), ("finished", 2, None)]


def test_numbers_wait_on_their_device_and_arrive_with_their_step(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, FACTS, step=0)
    session = Session(MultiHeadAttention(8, 2), options={}, recorders=[], folder=folder, step=0)
    session.begin_step(1)
    for loss in (0.25, 0.5):
        session.add_loss(torch.tensor(loss))
    session.tell_later(1, "grad_norm", torch.tensor(2.0))
    session.end_step(share=False)
    session.finish()
    (event,) = folder.run.events("step")
    assert (event["loss"], event["grad_norm"]) == (0.75, 2.0)


def test_an_error_after_the_end_changes_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, FACTS, step=0)
    session = Session(MultiHeadAttention(8, 2), options={}, recorders=[], folder=folder, step=0)
    session.finish()
    session.fail(RuntimeError("late"))
    assert Run.open(tmp_path).info.status is Status.FINISHED


def test_a_recorder_that_fails_at_the_end_fails_the_run(tmp_path: Path) -> None:
    class Full(Kept):
        def flush(self) -> None:
            raise OSError("no space left")

    folder = RunFolder(tmp_path, FACTS, step=0)
    session = Session(MultiHeadAttention(8, 2), options={}, recorders=[Full()], folder=folder, step=0)
    with pytest.raises(OSError, match="no space left") as raised:
        session.finish()
    with pytest.raises(OSError, match="no space left"):
        session.fail(raised.value)
    info = Run.open(tmp_path).info
    assert (info.status, info.message) == (Status.FAILED, "OSError: no space left (after step 0)")


def test_times_and_calls_of_a_resumed_run_add_up(tmp_path: Path) -> None:
    model = MultiHeadAttention(8, 2)
    for begin in (0, 1):
        session = Session(model, options={}, recorders=[], folder=RunFolder(tmp_path, FACTS, step=begin), step=begin)
        session.begin_step(begin + 1)
        with session.watching():
            model(torch.randn(1, 5, 8))
        session.end_step(share=True)
        session.finish()
    info = Run.open(tmp_path).info
    assert [entry["calls"] for entry in info.coverage] == [2]
    assert sum(info.kernels.values()) == 2
    assert [event["step"] for event in Run.open(tmp_path).events("resume")] == [1]


def test_a_new_training_refuses_a_folder_with_a_run(tmp_path: Path) -> None:
    RunFolder(tmp_path, FACTS, step=0)
    with pytest.raises(RegardError, match="needs an empty folder"):
        RunFolder(tmp_path, FACTS, step=0)


def moments(*values: float) -> Moments:
    """Return the summary of one statistic, a head a value, a row a head."""
    rows = torch.tensor(values)[None, None, :, None]
    return Moments.of(rows, torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.bool), num_all=1)


def test_means_of_layers_are_of_the_last_step_and_are_given_once() -> None:
    means = LayerMeans()
    means.add(1, "a", ("entropy",), moments(8.0, 8.0))
    means.add(2, "a", ("entropy",), moments(1.0, 3.0))
    means.add(2, "a", ("entropy",), moments(2.0, 4.0))
    means.add(1, "b", ("entropy",), moments(float("nan"), 5.0))
    means.add(1, "c", ("entropy",), moments(float("nan"), float("nan")))
    assert means.take() == {"attention/entropy/a": 2.5, "attention/entropy/b": 5.0}
    assert means.take() == {}
