"""What `regard check` is pointed at: a folder with a model, a run folder, or an import path."""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard._errors import ArgumentError
from regard.conformance.traits import meant

__all__ = ["Target", "folder_of", "found_at"]

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NEEDED = (
    "TARGET must be a folder with a model (config.json and weights), a run folder, minilm, or an import path such as "
    "package.module:factory"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something to check and where it comes from.

    Attributes:
        subject: as ``regard.check`` takes it.
        origin: Python that gives it, for reproductions.
        notes: what must be known about how it was loaded.
    """

    subject: Any
    origin: str
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, text: str) -> "Target":
        """Load or import what ``text`` names; nothing is downloaded.

        Raises:
            ArgumentError: there is no such folder, module or attribute, or it is no model and does not make one.
            MissingDependencyError: the model needs a package that is not installed.
            RecordError: the folder holds no model that can be loaded.
        """
        folder = folder_of(text)
        return _imported(text) if folder is None else _of_folder(folder)


def folder_of(text: str) -> Path | None:
    """Return the folder of the model that ``text`` names, or None where it may be an import path.

    Raises:
        ArgumentError: a folder that holds no model.
        MissingDependencyError: it is minilm, whose package is not installed.
    """
    if text == "minilm":
        from regard.models import minilm_folder

        return minilm_folder()
    folder = Path(text)
    if (folder / "run.json").is_file():
        if not (folder / "model" / "config.json").is_file():
            raise ArgumentError(
                f"A run must have written its model/ to be checked, got {folder} without one; train it."
            )
        return folder / "model"
    if (folder / "config.json").is_file():
        return folder
    if folder.is_dir():
        raise ArgumentError(f"{_NEEDED}, got {folder}, a folder without config.json.")
    return None


def _of_folder(folder: Path) -> Target:
    from regard.cli.local_model import load_module

    module, random = load_module(folder)
    notes: tuple[str, ...] = ()
    if random:
        names = ", ".join(random[:3]) + (", …" if len(random) > 3 else "")
        notes = (f"not in the folder, hence random: {names}",)
    origin = f"from transformers import AutoModel\nAutoModel.from_pretrained({str(folder)!r})"
    return Target(subject=module, origin=origin, notes=notes)


@contextmanager
def found_at(text: str) -> Iterator[Any]:
    """Give what the import path ``text`` names, while the current folder can be imported from.

    Raises:
        ArgumentError: it is no import path, or leads nowhere.
    """
    if not _IMPORT_PATH.fullmatch(text):
        raise ArgumentError(f"{_NEEDED}, got {text!r}; models are never downloaded.")
    module_name, _, path = text.partition(":")
    with _importable_here():
        found = _module(module_name)
        for name in path.split("."):
            found = _attribute(found, name, text)
        yield found


def _imported(text: str) -> Target:
    from regard.conformance.subjects.made import is_made, made

    with found_at(text) as found:
        subject = made(found, text)
    module_name, _, path = text.partition(":")
    first = path.split(".")[0]
    origin = f"from {module_name} import {first}\n{path}{'' if is_made(found) else '()'}"
    return Target(subject=subject, origin=origin)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise ArgumentError(f"{name} must import, got {str(error).rstrip('.')} within it; install that.") from error
        raise ArgumentError(
            f"{_NEEDED}, got {name!r}, of which {error.name} is not found in the current folder or among what is "
            "installed."
        ) from error
    except (ImportError, SyntaxError) as error:
        raise ArgumentError(f"{name} must import, got {type(error).__name__}: {error}.") from error


def _attribute(found: Any, name: str, text: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError as error:
        public = [one for one in dir(found) if not one.startswith("_")]
        where = getattr(found, "__name__", type(found).__name__)
        raise ArgumentError(f"{text} must exist, got no {name!r} in {where}{meant(name, public)}") from error


@contextmanager
def _importable_here() -> Iterator[None]:
    """Put the current folder first among the places that modules are imported from, as ``python -m`` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
