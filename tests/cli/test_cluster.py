"""Training on a Ray cluster: what one process computes, and clear words where it cannot be."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

# Ray is not imported here: it changes the records of every logger of the process.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'regard[ray]'")

SETTINGS = [
    "data.source=table", "data.text=body", "data.label=topic", "data.max_len=48", "model.num_layers=1",
    "model.embed_dim=32", "model.num_heads=2", "model.dropout_p=0", "optim.batch_size=8", "optim.epochs=1",
    "optim.accumulate=2", "check=false",
]  # fmt: skip


def command(news: Path, out: Path, *options: str) -> list[str]:
    given = [part for setting in (*SETTINGS, f"data.path={news}") for part in ("--set", setting)]
    return ["train", "from-scratch", *given, "--out", str(out), *options]


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "step"]


def test_two_workers_of_a_cluster_compute_what_one_process_does(
    news_file: Path, tmp_path: Path, regard_command: Callable[..., tuple[int, str, str]]
) -> None:
    assert regard_command(*command(news_file, tmp_path / "alone"))[0] == 0
    spread = [sys.executable, "-m", "regard", *command(news_file, tmp_path / "spread", "--ray", "2")]
    done = subprocess.run(spread, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7/7 report" in done.stdout
    assert len(losses(tmp_path / "spread")) == 6
    assert losses(tmp_path / "spread") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
    assert (tmp_path / "spread" / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--ray", "1"), "--ray needs at least 2 workers, got 1; leave it out for one process."),
        (
            ("--ray", "3"),
            "a multiple of the 3 ranks, got 2; set it to 3 and divide optim.batch_size by as much",
        ),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_starts(
    news_file: Path, tmp_path: Path, regard_command: Callable[..., tuple[int, str, str]], options: list[str], said: str
) -> None:
    code, _, error = regard_command(*command(news_file, tmp_path / "run", *options))
    assert code == 1
    assert said in error
    assert not (tmp_path / "run").exists()


def test_without_ray_it_says_what_to_install(
    news_file: Path,
    tmp_path: Path,
    regard_command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, error = regard_command(*command(news_file, tmp_path / "run", "--ray", "2"))
    assert code == 1
    assert error == "regard: --ray needs Ray Train, got none; pip install 'regard[ray]'.\n"
