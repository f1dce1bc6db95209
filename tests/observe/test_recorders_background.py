"""Recorders that write in a thread: nothing is lost in silence, no order is changed, no process hangs."""

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
import torch

from regard._errors import RecordError
from regard.observe.moments import Moments
from regard.observe.recorders import Recorder, Recorders
from regard.observe.recorders.background import Background
from regard.observe.recorders.background_recorder import StepRecorder
from regard.observe.recorders.waiting import Seen, means, path


def summary(*values: float) -> Moments:
    """One statistic, one sequence, one head, a row per value."""
    rows = torch.tensor(values).reshape(1, 1, 1, -1)
    every = torch.ones(1, 1, len(values), dtype=torch.bool)
    return Moments.of(rows, every, ~every, num_all=len(values))


class Kept(StepRecorder):
    """Keeps what it would write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[int, dict[tuple[str, str], list[float]], list[int]]] = []
        self.threads: set[str] = set()
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()

    def _write_step(self, step: int, seen: Sequence[Seen]) -> None:
        self.threads.add(threading.current_thread().name)
        self.gate.wait(60)
        if self.fails:
            raise OSError("no space left on device")
        found = {key: mean.tolist() for key, mean in means(seen).items()}
        self.written.append((step, found, [one.calls for one in seen]))


def test_a_step_is_written_when_the_next_begins_and_its_calls_are_one() -> None:
    recorder = Kept()
    recorder.add(1, "a", ("entropy",), summary(1.0))
    recorder.add(1, "b", ("entropy",), summary(5.0))
    recorder.add(1, "a", ("entropy",), summary(2.0, 3.0))
    recorder.add(2, "a", ("entropy",), summary(4.0))
    recorder._background.flush()
    assert recorder.written == [(1, {("a", "entropy"): [2.0], ("b", "entropy"): [5.0]}, [2, 1])]
    recorder.close()
    assert recorder.written[1:] == [(2, {("a", "entropy"): [4.0]}, [1])]
    assert recorder.threads == {"Kept_0"}


def test_a_statistic_that_comes_in_two_groups_is_one() -> None:
    recorder = Kept()
    both = Moments(sums=summary(1.0).sums.repeat(1, 2, 1), lows=summary(1.0).lows.repeat(1, 2, 1))
    recorder.add(1, "a", ("entropy", "distance"), both)
    recorder.add(1, "a", ("entropy",), summary(3.0))
    recorder.close()
    assert recorder.written[0][1] == {("a", "entropy"): [2.0], ("a", "distance"): [1.0]}


def test_what_comes_late_is_written_under_its_own_step() -> None:
    with Kept() as recorder:
        recorder.add(1, "a", ("entropy",), summary(1.0))
        recorder.add(2, "a", ("entropy",), summary(2.0))
        recorder.add(1, "a", ("qk_gradient",), summary(9.0))
    assert [(step, list(found)) for step, found, _ in recorder.written] == [
        (1, [("a", "entropy")]),
        (1, [("a", "qk_gradient")]),
        (2, [("a", "entropy")]),
    ]


@pytest.mark.parametrize("where", ["add", "flush", "close"])
def test_an_error_in_the_thread_is_raised_by_the_next_call(where: str, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Kept()
    recorder.fails = True
    recorder.gate.clear()
    recorder.add(1, "a", ("entropy",), summary(1.0))
    recorder.add(2, "a", ("entropy",), summary(2.0))
    failing = recorder._background._pieces[0]
    recorder.gate.set()
    failing.exception(60)
    calls = {"add": lambda: recorder.add(2, "a", ("entropy",), summary(1.0))}
    with pytest.raises(RecordError, match="Kept failed with OSError: no space left on device"):
        calls.get(where, getattr(recorder, where))()
    assert "recorder_failed" in [record.message for record in caplog.records if record.levelno == logging.ERROR]


def test_close_ends_the_thread_also_after_an_error() -> None:
    recorder = Kept()
    recorder.fails = True
    recorder.add(1, "a", ("entropy",), summary(1.0))
    with pytest.raises(RecordError, match="no space left"):
        recorder.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Kept")]
    recorder.close()


def test_a_closed_recorder_takes_nothing() -> None:
    recorder = Kept()
    recorder.close()
    recorder.flush()
    with pytest.raises(RecordError, match="got a closed Kept; make a new one"):
        recorder.add(1, "a", ("entropy",), summary(1.0))


def test_the_model_waits_only_when_the_thread_is_far_behind() -> None:
    background = Background("test")
    gate, done = threading.Event(), []

    def work(number: int) -> None:
        gate.wait(60)
        done.append(number)

    for number in range(4):
        background.submit(lambda number=number: work(number))
    assert done == []
    opener = threading.Timer(0.05, gate.set)
    opener.start()
    background.submit(lambda: work(4))
    assert done[0] == 0
    background.close()
    assert done == [0, 1, 2, 3, 4]
    opener.join()


def test_several_recorders_are_all_flushed_and_closed_though_some_fail() -> None:
    first, good, last = Kept(), Kept(), Kept()
    first.fails = last.fails = True
    several = Recorders([first, good, last])
    several.add(1, "a", ("entropy",), summary(1.0))
    with pytest.raises(RecordError, match="no space left"):
        several.flush()
    assert len(good.written) == 1
    several.add(2, "a", ("entropy",), summary(1.0))
    with pytest.raises(RecordError, match="no space left"):
        several.close()
    assert len(good.written) == 2
    assert all(recorder._closed for recorder in (first, good, last))
    assert isinstance(several, Recorder)


def test_path_leaves_out_the_name_of_the_model_itself() -> None:
    assert path("entropy", "", "head0") == "entropy/head0"
    assert path("entropy", "layer.0", "head0") == "entropy/layer.0/head0"


PROGRAM = """
import atexit, os, sys, time
from collections.abc import Sequence
import torch
from regard._errors import RecordError
from regard.observe.moments import Moments
from regard.observe.recorders.background_recorder import StepRecorder

class Told(StepRecorder):
    def _write_step(self, step, seen):
        time.sleep(0.1)
        os.write(1, f"wrote {step}\\n".encode())

def summary():
    every = torch.ones(1, 1, 1, dtype=torch.bool)
    return Moments.of(torch.ones(1, 1, 1, 1), every, ~every, num_all=1)

recorder = Told()
recorder.add(1, "a", ("entropy",), summary())
recorder.add(2, "a", ("entropy",), summary())
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_forgets_to_close_ends_and_writes_what_was_handed_over() -> None:
    assert run("") == "wrote 1\n"


def test_a_recorder_can_be_closed_while_the_interpreter_ends() -> None:
    assert run("atexit.register(recorder.close)") == "wrote 1\nwrote 2\n"


def test_a_fork_may_not_use_its_parents_recorder_and_does_not_hang() -> None:
    forked = """
child = os.fork()
if child == 0:
    try:
        recorder.add(3, "a", ("entropy",), summary())
    except RecordError as error:
        os.write(1, (str(error).split(",")[0] + "\\n").encode())
    recorder.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
recorder.close()
"""
    told = run(forked).splitlines()
    assert sorted(told) == ["A recorder must stay in the process that made it", "wrote 1", "wrote 2"]
