"""Four processes that share a batch see what one process sees, and their gradients do not notice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from regard._errors import UnsupportedError
from regard.observe import watch

PROGRAM = """
import json, os, sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from regard.modules import MultiHeadAttention
from regard.observe import watch

KEPT = []  # see the end
NAMES = ["entropy", "normalized_entropy", "max_weight", "first_mass", "output_norm", "received_gini", "qk_gradient"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(32, 4)
        self.out = nn.Linear(32, 32)

    def forward(self, x, key_padding_mask):
        return self.out(self.attention(x, key_padding_mask=key_padding_mask))


def table(rank, world, store):
    torch.manual_seed(0)
    model = Model().double()
    inputs = torch.randn(8, 11, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    padding = torch.arange(11) >= torch.tensor([11, 3, 7, 8, 1, 2, 9, 4])[:, None]
    share = slice(rank * 8 // world, (rank + 1) * 8 // world)
    if world > 1:
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
        model = DistributedDataParallel(model)
        KEPT.append(model)

    def step():
        model.zero_grad()
        model(inputs[share], key_padding_mask=padding[share]).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    step()  # DistributedDataParallel arranges its messages after the first one
    plain = step()
    assert all(torch.equal(one, other) for one, other in zip(plain, step(), strict=True)), "not repeatable by itself"
    with watch(model, NAMES) as view:
        watched = step()
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True)), "gradients changed"
    if world == 1:
        return view.table()
    gathered = view.gathered()
    every = [None] * world
    distributed.all_gather_object(every, json.dumps(gathered))
    assert len(set(every)) == 1, "ranks disagree"
    return gathered


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = table(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    if sys.argv[1] == "0":
        with open(sys.argv[4], "w") as file:
            file.write(json.dumps(found))
    # gloo's destructor joins a thread that may be waiting for the interpreter's lock, which the destructor holds.
    distributed.barrier()
    os._exit(0)
"""
SAME = ("layer", "statistic", "head", "num_rows", "num_empty_rows")
CLOSE = ("mean", "se", "minimum", "maximum", "sequence_std", "sequence_minimum", "sequence_maximum", "sequence_share")


def in_processes(folder: Path, world: int) -> list[dict[str, Any]]:
    program, out = folder / "program.py", folder / "table.json"
    program.write_text(PROGRAM)
    arguments = [str(world), str(folder / "store"), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-W", "ignore", str(program), str(rank), *arguments], env=environment)
        for rank in range(world)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
    rows: list[dict[str, Any]] = json.loads(out.read_text())
    return rows


def alone() -> list[dict[str, Any]]:
    known: dict[str, Any] = {"__name__": "program"}
    exec(PROGRAM, known)
    rows: list[dict[str, Any]] = known["table"](0, 1, "")
    return rows


def test_four_processes_see_what_one_sees(tmp_path: Path) -> None:
    """In float64, so that nothing but the order of the sums may differ."""
    one, four = alone(), in_processes(tmp_path, 4)
    assert len(one) == len(four) == 7 * 4
    assert {row["num_rows"] for row in one if row["statistic"] == "entropy"} == {45}
    assert {row["statistic"] for row in one} >= {"entropy", "received_gini", "qk_gradient"}
    for row, other in zip(one, four, strict=True):
        assert [row[name] for name in SAME] == [other[name] for name in SAME]
        for name in CLOSE:
            # A variance is a difference of sums, which loses digits.
            relative = 1e-9 if name in ("sequence_std", "sequence_share") else 1e-12
            assert other[name] == pytest.approx(row[name], rel=relative, abs=1e-14, nan_ok=True), (row, name)


def test_gathering_without_a_group_is_refused() -> None:
    layer = torch.nn.Linear(2, 2)
    with watch(layer) as view, pytest.raises(UnsupportedError, match=r"needs torch\.distributed, which is not running"):
        view.gathered()
