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
import json, sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from regard.modules import MultiHeadAttention
from regard.observe import watch

rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(MultiHeadAttention(32, 4), torch.nn.Linear(32, 32))
inputs = torch.randn(8, 11, 32, generator=torch.Generator().manual_seed(1))
share = inputs[rank * 8 // world : (rank + 1) * 8 // world]
names = ["entropy", "max_weight", "first_mass", "received_gini", "qk_gradient"]
if world > 1:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    model = DistributedDataParallel(model)

def step():
    model.zero_grad()
    model(share).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]

step()  # DistributedDataParallel arranges its messages after the first one
plain = step()
assert all(torch.equal(one, other) for one, other in zip(plain, step(), strict=True)), "not repeatable by itself"
with watch(model, names) as view:
    watched = step()
assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True)), "gradients changed"
table = view.gathered() if world > 1 else view.table()
if rank == world - 1:
    open(out, "w").write(json.dumps(table))
if world > 1:
    distributed.destroy_process_group()
"""


def run(folder: Path, world: int) -> list[dict[str, Any]]:
    program, out = folder / f"program-{world}.py", folder / f"table-{world}.json"
    program.write_text(PROGRAM)
    arguments = [str(world), str(folder / f"store-{world}"), str(out)]
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


def test_four_processes_see_what_one_sees(tmp_path: Path) -> None:
    alone, together = run(tmp_path, 1), run(tmp_path, 4)
    assert len(alone) == len(together) == 5 * 4
    of_gradients = 0
    for one, other in zip(alone, together, strict=True):
        assert [one[name] for name in ("layer", "statistic", "head", "num_rows", "num_empty_rows")] == [
            other[name] for name in ("layer", "statistic", "head", "num_rows", "num_empty_rows")
        ]
        # A kernel may add up in another order for another batch size, so single rows agree to float32 rounding.
        for name in ("mean", "minimum", "maximum", "sequence_std", "sequence_share"):
            assert other[name] == pytest.approx(one[name], rel=1e-5, abs=1e-7, nan_ok=name == "sequence_share"), (
                one["statistic"],
                name,
            )
        of_gradients += one["statistic"] == "qk_gradient"
    assert of_gradients == 4


def test_gathering_without_a_group_is_refused() -> None:
    layer = torch.nn.Linear(2, 2)
    with watch(layer) as view, pytest.raises(UnsupportedError, match=r"needs torch\.distributed, which is not running"):
        view.gathered()
