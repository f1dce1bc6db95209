"""One process writes a folder at a time, and a process that is gone, even by SIGKILL, holds none."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from regard._errors import RecordError
from regard.records import LOCK_NAME, one_writer, writer_lock

HOLD = """
import sys, time
from regard.records import one_writer
with one_writer(sys.argv[1], what="run", tell=print):
    print("held", flush=True)
    time.sleep(60)
"""


def untold(sentence):
    raise AssertionError(sentence)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder ``tmp_path / "run"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_in_one_sentence_that_names_the_first(holder, tmp_path):
    expected = rf"One process writes a run at a time, got .*run, which process {holder.pid} on \S+ is writing; wait "
    with pytest.raises(RecordError, match=expected), one_writer(tmp_path / "run", what="run", tell=untold):
        pass
    assert (tmp_path / "run" / LOCK_NAME).exists(), "the first one's lock is left alone"


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK_NAME).exists()

    with one_writer(tmp_path / "run", what="run", tell=untold):
        assert str(os.getpid()) in (tmp_path / "run" / LOCK_NAME).read_text()
    assert not (tmp_path / "run" / LOCK_NAME).exists()


def test_the_same_process_is_refused_a_second_time_and_may_go_on_after_the_first(tmp_path):
    with one_writer(tmp_path, what="run", tell=untold):
        with pytest.raises(RecordError, match=f"which process {os.getpid()} on"):
            one_writer(tmp_path, what="run", tell=untold).__enter__()
        (tmp_path / "kept").touch()
    with one_writer(tmp_path, what="run", tell=untold):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_that_stayed_empty_is_not_left_behind(tmp_path):
    with pytest.raises(ValueError, match="unreadable"), one_writer(tmp_path / "new", what="run", tell=untold):
        raise ValueError("unreadable")
    assert not (tmp_path / "new").exists()


def test_a_lock_that_its_holder_removed_meanwhile_is_not_taken_for_one(tmp_path, monkeypatch):
    really, tries = writer_lock._lock, []

    def removed(handle):
        really(handle)
        tries.append(handle)
        if len(tries) == 1:
            (tmp_path / LOCK_NAME).unlink()

    monkeypatch.setattr(writer_lock, "_lock", removed)
    with one_writer(tmp_path, what="run", tell=untold):
        assert (tmp_path / LOCK_NAME).exists()
    assert len(tries) == 2


def test_a_file_system_without_locks_is_told_of_and_worked_on(tmp_path, monkeypatch):
    def none(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(writer_lock, "_lock", none)
    told = []
    with one_writer(tmp_path, what="run", tell=told.append):
        (tmp_path / "kept").touch()
    assert len(told) == 1
    assert "has no locks (No locks available): see to it that no other process writes this run." in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with (
        pytest.raises(RecordError, match="A run needs a folder, got the file"),
        one_writer(tmp_path / "run", what="run", tell=untold),
    ):
        pass
