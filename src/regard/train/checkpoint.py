"""Checkpoints: everything that the next step depends on, in one file written whole."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regard._errors import RecordError
from regard.records import atomic_path

__all__ = ["CHECKPOINT_VERSION", "load_checkpoint", "read_checkpoint", "restore_checkpoint", "save_checkpoint"]

CHECKPOINT_VERSION = 1


def save_checkpoint(
    path: Path, *, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Write ``step``, the model, the optimizer, PyTorch's random state and ``state`` to ``path`` atomically."""
    content = {
        "version": CHECKPOINT_VERSION,
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "state": dict(state),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]]:
    """Restore what ``save_checkpoint`` wrote; return its step and ``state``.

    Raises:
        RecordError: the file is damaged or of another version.
    """
    return restore_checkpoint(read_checkpoint(path), model=model, optimizer=optimizer)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of what ``save_checkpoint`` wrote, in the host's memory.

    Raises:
        RecordError: the file is damaged or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise RecordError(
            f"{path} must be a checkpoint, got a file that does not load; delete it to start over."
        ) from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != CHECKPOINT_VERSION:
        raise RecordError(
            f"{path} must be a checkpoint of version {CHECKPOINT_VERSION}, got version {version}; "
            "go on with the regard that wrote it, or start over with --fresh."
        )
    return dict(content)


def restore_checkpoint(
    content: Mapping[str, Any], *, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    """Put the content of a checkpoint back; return its step and ``state``."""
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    if torch.cuda.is_available() and content["cuda_random"]:
        torch.cuda.set_rng_state_all(content["cuda_random"])
    return int(content["step"]), dict(content["state"])
