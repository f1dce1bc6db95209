"""The benchmarks run and compare every peer. No test asserts a time."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
PROGRAMS = sorted(path for path in BENCHMARKS.glob("*.py") if "\nif __name__ ==" in path.read_text(encoding="utf-8"))
WATCHED = [
    "off",
    "watch, default statistics",
    "watch, entropy only",
    "watch, entropy, collision and masses",
    "watch, all of rows",
    "watch, 64 sampled rows",
]
HAS_NATIVE = importlib.util.find_spec("regard_native") is not None
if HAS_NATIVE:
    WATCHED.append("native kernels, entropy, collision and masses")
EAGER = ["eager", "eager, with maps", "eager, with maps and entropy"]
TRAINERS = ["Trainer, defaults", "Trainer, equal work", "Trainer, equal work, our batches"]
STEPS = [
    "transformers",
    "transformers, dropout 0.1",
    "regard, PyTorch's kernel",
    "regard, PyTorch's kernel, bfloat16",
]
LEARNERS = ["Trainer, defaults", "Trainer, our settings", "regard, PyTorch's kernels"]
if HAS_NATIVE:
    STEPS += ["regard, native", "regard, native, all statistics"]
    LEARNERS.append("regard, native kernels")
LONG = ["off", "watch, entropy, collision and masses", "watch, 64 sampled rows"]
if HAS_NATIVE:
    LONG.append("native kernels, entropy, collision and masses")
ON_REQUEST = [
    "weights of a kept call",
    "watched forward and its weights",
    "one forward, unwatched",
    "1 forwards, for identity blocks",
]
WRITERS = ["transformers", "regard, static cache", "regard, dynamic cache", "regard, int8 cache"]
KERNELS = ["sdpa", "native", "native + statistics"]
PEERS = {
    "alignment": [],  # needs a trained translator
    "attention": [[*KERNELS, "statistics alone"], KERNELS[::2], [*KERNELS, "copy of the caches"]],
    "decode": [WRITERS] * 4,
    "help": [["python -c pass", "import regard", "regard --help", "import torch"]],
    "length": [[*LONG, "eager"], LONG, LONG, ON_REQUEST],
    "patterns": [],
    "plan": [],  # its ratios are of bytes
    "probes": [],
    "scratch": [STEPS, [STEPS[1], STEPS[0], *STEPS[2:]]],
    "smollm2": [],
    "trainer": [[*TRAINERS, "regard, watched"], [TRAINERS[1], "regard, watched"], [TRAINERS[2], "regard, watched"]],
    "watch": [[*WATCHED, *EAGER], WATCHED],
}


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    """Return ``benchmarks/measure.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("benchmarks_measure", BENCHMARKS / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def samples(measure, seconds, waiting):
    return [measure.Sample(seconds=took, waiting=waited) for took, waited in zip(seconds, waiting, strict=True)]


def test_every_program_is_listed():
    assert [path.stem for path in PROGRAMS] == sorted(PEERS)
    page = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert [
        path.name for path in PROGRAMS if f"`python benchmarks/{path.name}`" not in page.replace(".py RUN`", ".py`")
    ] == []


@pytest.mark.parametrize(
    "name",
    [
        "help",
        "decode",
        "plan",
        pytest.param("attention", marks=pytest.mark.skipif(not HAS_NATIVE, reason="needs regard-native: make native")),
        *(pytest.param(name, marks=pytest.mark.data) for name in ("length", "scratch", "trainer", "watch")),
    ],
)
def test_quick_run_has_a_ratio_for_every_peer(name, tmp_path):
    files = {"json": tmp_path / "out.json", "markdown": tmp_path / "out.md"}
    options = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", *options]
    # One thread: two that wait for each other on a busy machine would make the test slow, not better.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    content = json.loads(files["json"].read_text(encoding="utf-8"))
    tables = [table for table in content["tables"] if "peers" in table]
    assert [[row["peer"] for row in table["peers"]] for table in tables] == PEERS[name]
    rows = [row for table in tables for row in table["peers"]]
    if name == "scratch":
        assert [list(table["values"]) for table in content["tables"] if "values" in table] == [LEARNERS] * 2
    assert all(math.isfinite(row["ratio"]) and row["ratio"] > 0 for row in rows)
    assert [row["ratio"] for row in rows if row["peer"] == row["against"]] == [1.0] * len(tables)
    assert f"torch {content['machine']['torch']}" in done.stdout
    assert "no figure means anything" in done.stdout
    page = files["markdown"].read_text(encoding="utf-8")
    for row in rows:
        assert f"│ {row['peer']} " in done.stdout
        assert f"| {row['peer']} |" in page
        assert row["peer"] == row["against"] or f"{row['ratio']:.3f} (" in page


def test_every_pattern_stays_below_its_limit_in_a_quick_run(tmp_path):
    command = [
        sys.executable,
        "benchmarks/patterns.py",
        "--quick",
        "--heads",
        "1",
        "--json",
        str(tmp_path / "out.json"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--case", "torch alone"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    (table,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["tables"]
    assert list(table["values"]) == [f"the same, in torch alone, {kind}" for kind in ("forward", "backward")]
    for one in table["values"].values():
        assert one["flops"] > 0
        assert one["computed_share"] >= 1


def test_ratio_is_taken_within_a_round(measure):
    quiet = [0.0] * 5
    taken = {
        "first": samples(measure, [1, 10, 1, 10, 1], quiet),  # a machine that is sometimes ten times slower
        "peer": samples(measure, [2, 20, 2, 20, 2], quiet),
    }

    first, peer = measure.compare(taken)
    assert (first.ratio, peer.ratio, peer.low, peer.high) == (1, 2, 2, 2)
    assert peer.against == "first"
    assert peer.extra_s == 1


def test_round_in_which_either_peer_waited_is_thrown_away(measure):
    taken = {
        "first": samples(measure, [1] * 7, [0, 0, 0, 0, 0, 0.06, 0]),
        "peer": samples(measure, [2] * 5 + [200, 300], [0.05, 0, 0, 0, 0, 0, 0.5]),
    }

    _, peer = measure.compare(taken)
    assert (peer.ratio, peer.num_kept, peer.num_taken, peer.quiet) == (2, 5, 7, True)


def test_least_disturbed_rounds_stand_in_and_are_marked(measure):
    taken = {
        "first": samples(measure, [1] * 7, [0.0] * 7),
        "peer": samples(measure, [2, 2, 2, 2, 2, 50, 60], [0.1, 0.2, 0.1, 0.0, 0.2, 0.8, 0.9]),
    }

    _, peer = measure.compare(taken)
    assert (peer.ratio, peer.num_kept, peer.quiet) == (2, 5, False)


def test_waiting_that_cannot_be_known_is_said(measure):
    taken = {name: samples(measure, [1] * 6, [None] * 6) for name in ("first", "peer")}

    _, peer = measure.compare(taken)
    assert (peer.num_kept, peer.quiet) == (6, None)


def test_any_peer_may_be_the_one_compared_with(measure):
    taken = {"first": samples(measure, [4], [0.0]), "peer": samples(measure, [2], [0.0])}

    assert [found.ratio for found in measure.compare(taken, against="peer")] == [2, 1]


def test_peers_run_in_turn_beginning_with_another_each_round(measure):
    order: list[str] = []
    peers = {name: lambda name=name: order.append(name) or measure.Sample(seconds=1, waiting=0.0) for name in "abc"}

    taken = measure.collect(peers, rounds=3, warm_ups=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(of_peer) for name, of_peer in taken.items()} == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize(("waiting", "num_rounds"), [(0.0, 5), (0.5, 8)])
def test_rounds_are_added_while_too_few_are_quiet(waiting, num_rounds, measure):
    peers = {"first": lambda: measure.Sample(seconds=1, waiting=waiting)}

    assert len(measure.collect(peers, rounds=5, most_rounds=8, warm_ups=0)["first"]) == num_rounds


def test_failing_process_is_an_error_with_what_it_said(measure):
    with pytest.raises(RuntimeError, match=r"must succeed, got: .*no luck"):
        measure.timed_process([sys.executable, "-c", "import sys; sys.exit('no luck')"])


def test_process_is_measured_to_its_exit(measure):
    assert measure.timed_process([sys.executable, "-c", "import time; time.sleep(0.1)"]).seconds > 0.1


def test_unread_stopwatch_is_refused(measure):
    with pytest.raises(RuntimeError, match="must be started and stopped"):
        _ = measure.Stopwatch().sample
