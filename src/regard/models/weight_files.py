"""Model folders: ``config.json`` and ``model.safetensors``, each written whole, and read without a guess."""

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from regard._errors import RecordError
from regard.records import atomic_path, write_json

__all__ = ["read_config", "read_weights", "write_weights"]


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.json``.

    Raises:
        RecordError: the file is absent or damaged.
    """
    path = folder / "config.json"
    try:
        values = orjson.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"A model folder with {path.name} is needed, got {path} ({error.strerror}).") from error
    except orjson.JSONDecodeError as error:
        raise RecordError(f"{path} must hold JSON, got something else ({error}); the file is damaged.") from error
    if not isinstance(values, dict):
        raise RecordError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return values


def write_weights(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write weights under the names that they have here, and the config.

    Raises:
        RecordError: the files cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    try:
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(stored, temporary, metadata={"format": "pt"})
        write_json(folder / "config.json", dict(config))
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{folder} must be a folder with room for the model, got: {error}.") from error


def read_weights(
    path: Path, needed: Mapping[str, torch.Size], *, key: Callable[[str], str] = str, ignore: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Return the weights ``needed`` of a file, in float32.

    Args:
        path: of ``model.safetensors``.
        needed: name -> shape, names as ``key`` gives them.
        key: takes away in what files of one architecture differ; applied to the file's names.
        ignore: patterns of names that the file may hold and that are not needed.

    Raises:
        RecordError: the file is absent or damaged, or a weight is missing, unexpected or of another shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys = {key(theirs): theirs for theirs in file.keys()}  # noqa: SIM118 (not a dict)
            _compare(path, set(keys), set(needed), ignore)
            return {name: _tensor(path, file, keys[name], shape) for name, shape in needed.items()}
    except (OSError, SafetensorError) as error:
        raise RecordError(f"A model folder with a whole {path.name} is needed, got {path} ({error}).") from error


def _compare(path: Path, present: set[str], needed: set[str], ignore: Sequence[str]) -> None:
    missing = sorted(needed - present)
    extra = sorted(present - needed)
    unexpected = [key for key in extra if not any(fnmatch.fnmatchcase(key, pattern) for pattern in ignore)]
    problems = ((missing, "misses"), (unexpected, "holds the unexpected"))
    if found := [f"{what} {_few(keys)}" for keys, what in problems if keys]:
        raise RecordError(f"{path} must hold the weights of this architecture, but it {' and '.join(found)}.")


def _few(keys: Sequence[str]) -> str:
    rest = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{', '.join(keys[:5])}{rest}"


def _tensor(path: Path, file: Any, key: str, shape: torch.Size) -> Tensor:
    tensor: Tensor = file.get_tensor(key)
    if tensor.shape != shape:
        raise RecordError(f"{key} in {path} must have config.json's shape {tuple(shape)}, got {tuple(tensor.shape)}.")
    # Always a copy: the file's memory is mapped, and training would write into it.
    return tensor.to(torch.float32, copy=True)
