"""Two processes train as one does: same losses, same weights, same statistics, and a stopped run goes on."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from regard import RegardError
from regard.modules import MultiHeadAttention
from regard.records import Run, Status
from regard.train import BatchLoss, Fit, OptimConfig, Ranks, Silent, WatchConfig, join_ranks

OPTIM = OptimConfig(epochs=2, lr=1e-2, accumulate=2)
WATCHING = WatchConfig(every_step=("entropy",), sometimes=("max_weight",), interval=3)


class Model(nn.Module):
    def __init__(self, dropout_p: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(8, 2)
        self.drop = nn.Dropout(dropout_p)
        self.out = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.attention(x))).squeeze(-1)


class SumTask:
    """Predict the sum of each row; five batches an epoch, so that its last step has one batch for two ranks."""

    def __init__(self, dropout_p: float = 0.0, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = Model(dropout_p)
        self.inputs = torch.randn(18, 6, 8)
        self.num_losses = 0
        self.stop_at = stop_at

    def batches(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([7, epoch]).permutation(18)
        return [order[i : i + 4].tolist() for i in range(0, 18, 4)]

    def loss(self, batch: Sequence[int]) -> BatchLoss:
        self.num_losses += 1
        if self.num_losses == self.stop_at:
            signal.raise_signal(signal.SIGINT)
        x = self.inputs[list(batch)]
        loss = (self.model(x) - x.sum(-1)).square().mean()
        return BatchLoss(loss=loss, num_tokens=6 * len(batch), num_cells=7 * len(batch), weight=len(batch))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "lr": OPTIM.lr}]

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            return {"loss": float((self.model(self.inputs) - self.inputs.sum(-1)).square().mean())}


def train(folder: Path, *, dropout_p: float = 0.0, stop_at: int | None = None) -> None:
    """Train in this process, alone or as a rank: each rank has a folder, of which the first one's is looked at."""
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        place = folder / str(ranks.rank)
        run = Run.open(place) if (place / "run.json").exists() else Run.create(place, recipe="sum")
        task = SumTask(dropout_p, stop_at if ranks.rank == 1 else None)
        fit = Fit(task, run=run, optim=OPTIM, watching=WATCHING, checkpoint_every_s=1e9, progress=Silent())
        with suppress(KeyboardInterrupt):
            fit.run()
        run.heads.finish()


def together(folder: Path, *arguments: str) -> Run:
    """Train on two ranks, in the environment that ``torchrun`` would give them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), *arguments],
            env={**os.environ, **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return Run.open(folder / "0")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    alone, shared = (tmp_path_factory.mktemp(name) for name in ("alone", "shared"))
    train(alone)
    return Run.open(alone / "0"), together(shared)


def of_steps(run: Run, name: str) -> list[float]:
    return [event[name] for event in run.events("step")]


def test_two_ranks_have_the_losses_of_one(both: tuple[Run, Run]) -> None:
    alone, shared = both
    assert len(of_steps(alone, "loss")) == 6
    for name in ("loss", "grad_norm", "tokens", "padding_share"):
        assert of_steps(shared, name) == pytest.approx(of_steps(alone, name), rel=1e-5)
    assert [event["loss"] for event in shared.events("validation")] == pytest.approx(
        [event["loss"] for event in alone.events("validation")], rel=1e-5
    )


def test_the_statistics_are_those_of_all_ranks(both: tuple[Run, Run]) -> None:
    query = "SELECT step, head, statistic, mean, num_rows FROM heads ORDER BY ALL"
    found = [run.heads.query(query) for run in both]
    assert found[0]["step"].tolist() == found[1]["step"].tolist()
    assert found[0]["num_rows"].tolist() == found[1]["num_rows"].tolist()
    assert found[0]["mean"] == pytest.approx(found[1]["mean"], rel=1e-4)


def test_ranks_that_one_of_them_stopped_go_on_to_the_same_end(tmp_path: Path) -> None:
    whole = together(tmp_path / "whole", "0.3")
    stopped = together(tmp_path / "stopped", "0.3", "2")
    assert stopped.info.status is Status.INTERRUPTED
    assert len(of_steps(stopped, "loss")) == 2
    resumed = together(tmp_path / "stopped", "0.3")
    assert of_steps(resumed, "loss") == of_steps(whole, "loss")


def test_a_step_that_cannot_be_dealt_out_is_refused() -> None:
    with pytest.raises(RegardError, match=r"multiple of the 3 ranks, got 2; set it to 3 and divide optim\.batch_size"):
        Ranks(3).check(2)


if __name__ == "__main__":
    given = sys.argv[2:]
    train(
        Path(sys.argv[1]),
        dropout_p=float(given[0]) if given else 0.0,
        stop_at=int(given[1]) if len(given) > 1 else None,
    )
