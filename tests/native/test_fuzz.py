"""Random calls agree with float64, and the program that draws them tells where they do not."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("regard_native", reason="needs regard-native: `make native` with a C++ compiler")

HERE = Path(__file__).resolve().parent


@pytest.fixture
def fuzz(monkeypatch):
    """Return the program as a module; its neighbours are found as when it is run."""
    monkeypatch.syspath_prepend(str(HERE))
    import fuzz

    yield fuzz
    for name in ("fuzz", "drawn", "dense", "chosen"):
        sys.modules.pop(name, None)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "fuzz.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_random_calls_agree_with_float64():
    done = run("--calls", "150", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "150 calls agree.\n"


def test_one_call_is_drawn_again_from_its_seed(fuzz):
    first, again = (fuzz.Drawn.of(7) for _ in range(2))
    assert first.words == again.words
    assert first.query.equal(again.query)
    done = run("--only", "7")
    assert done.stdout.splitlines()[0].startswith(f"7: {first.words}")
    assert done.stdout.splitlines()[1] == "  within the budget"


@pytest.mark.parametrize("seed", [2, 5])
def test_a_scale_that_is_off_by_little_is_found(fuzz, seed):
    drawn = fuzz.Drawn.of(seed)
    dense = fuzz.Dense(drawn.query, drawn.key, drawn.value, drawn.masking)
    wrong = replace(drawn, masking={**drawn.masking, "scale": 1.0002 * dense.scale})
    differing = {name for name, values, answer in fuzz.checked(wrong, dense) if answer.mismatch(values)}
    assert {"lse", "lse of statistics", "max_score"} <= differing


def test_a_process_that_dies_is_reported_and_the_rest_goes_on(fuzz, monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\nfirst, calls = map(int, sys.argv[2:])\n"
        "for seed in range(first, first + calls):\n"
        "    if seed == 2: os.kill(os.getpid(), 11)\n"
        "    print('.', flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(fuzz, "__file__", str(worker))
    found = dict(fuzz.outcomes(0, 5))
    assert list(found) == [0, 1, 2, 3, 4]
    assert found[2] == ["the process died", "SIGSEGV; see --only 2"]
    assert not any(found[seed] for seed in (0, 1, 3, 4))
