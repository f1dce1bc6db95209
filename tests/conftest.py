"""What every test may rely on: a fixed seed, no network, and the shared data where a checkout has it."""

import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

# Before any Hugging Face library is imported: a test that needs the hub must fail here, not on someone's train.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

# Before torch loads OpenMP, as on the command line: tests share their cores with each other and with other work.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes, which share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_LONGEST = ("tests/test_readme.py", "tests/conformance/", "tests/test_demo.py", "tests/cli/", "tests/train/")
"""Where the longest files are; they run first, so that no process ends long after the others."""

settings.register_profile("regard", derandomize=True, deadline=None, database=None)
settings.load_profile("regard")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""

    def place(item: pytest.Item) -> int:
        return next((at for at, start in enumerate(_LONGEST) if item.nodeid.startswith(start)), len(_LONGEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test from the same random state, without importing torch or numpy for tests that do not."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"Tests run offline, got a connection to {address}.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the folder shared/data beside the checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def fast_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of one ``regard demo --fast``, which several tests read; none may change it."""
    folder = tmp_path_factory.mktemp("fast-demo") / "demo-fast"
    command = [sys.executable, "-m", "regard", "demo", "--fast", "--out", str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    (folder.parent / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
