"""A checkpoint restores everything that the next step depends on, or is refused."""

from pathlib import Path

import pytest
import torch
from torch import nn

from regard import RegardError
from regard.train import load_checkpoint, save_checkpoint


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    train(model, optimizer, steps)
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = model(torch.ones(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model, optimizer = trained(3)
    save_checkpoint(tmp_path / "checkpoint.pt", step=3, model=model, optimizer=optimizer, state={"tokens": 7})
    expected = train(model, optimizer, 4)
    other, other_optimizer = trained(0)
    torch.manual_seed(99)
    step, state = load_checkpoint(tmp_path / "checkpoint.pt", model=other, optimizer=other_optimizer)
    assert (step, state) == (3, {"tokens": 7})
    assert train(other, other_optimizer, 4) == expected


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained(1)
    torch.save({"version": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(RegardError, match="version 1, got version 99"):
        load_checkpoint(tmp_path / "checkpoint.pt", model=model, optimizer=optimizer)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    model, optimizer = trained(1)
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(RegardError, match="got a file that does not load"):
        load_checkpoint(tmp_path / "checkpoint.pt", model=model, optimizer=optimizer)


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = trained(1)
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, step=1, model=model, optimizer=optimizer, state={})
    before = path.read_bytes()

    def full(content: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, step=2, model=model, optimizer=optimizer, state={})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]
