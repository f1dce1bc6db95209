"""What an import may cost and touch, proved in fresh interpreters."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = sorted(path.parent.name for path in (ROOT / "src/regard").glob("*/__init__.py"))
TORCH_FREE = ("records", "diagnose", "viewer")

BLOCK_TORCH = "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'sklearn', 'datasets']))\n"

EACH_ROOM_ALONE = """
import importlib, os, sys
import torch
for room in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        importlib.import_module(f"regard.{room}")
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, f"regard.{room} does not import alone"
"""

NOTHING_TOUCHED = """
import os, signal, sys, threading, warnings
def state():
    return (dict(os.environ), os.getcwd(), threading.enumerate(), list(warnings.filters), sys.excepthook,
            signal.getsignal(signal.SIGINT), sorted(os.listdir()))
before = state()
import regard
assert regard.__version__
assert state() == before
assert "torch" not in sys.modules
assert "numpy" not in sys.modules
"""


def fresh(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter in which warnings are errors."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_regard_touches_nothing_and_needs_no_torch(tmp_path):
    done = fresh(NOTHING_TOUCHED, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_free_room_imports_with_torch_blocked(room, tmp_path):
    done = fresh(BLOCK_TORCH + f"import regard.{room}", cwd=tmp_path)

    assert done.returncode == 0, done.stderr


def test_every_room_imports_alone_in_silence(tmp_path):
    done = fresh(EACH_ROOM_ALONE, *ROOMS, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_every_room_is_an_attribute_of_the_package(tmp_path):
    rooms = sorted(set(ROOMS) - {"cli"})
    done = fresh("import sys, regard\nassert set(sys.argv[1:]) <= set(dir(regard)), dir(regard)", *rooms, cwd=tmp_path)

    assert done.returncode == 0, done.stderr


def test_help_answers_with_torch_blocked(tmp_path):
    code = BLOCK_TORCH + "sys.argv = ['regard', '--help']\nfrom regard.cli.main import run\nrun()"
    done = fresh(code, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
