"""A decoder that is given, with its own tokenizer: a folder, a GGUF file, or one that a package brings."""

from pathlib import Path
from typing import Literal

from regard._errors import DataError
from regard.data import Tokenizer, load_gguf_tokenizer, load_tokenizer
from regard.models import Decoder, load_decoder, load_gguf, smollm2_file
from regard.modules import FastDropout

__all__ = ["given_decoder", "given_name", "given_tokenizer"]

Given = Path | Literal["smollm2"]


def given_name(given: Given) -> str:
    """Return what a person calls it."""
    if given == "smollm2":
        return "SmolLM2-135M"
    # A run keeps its model in a folder of that name, which says nothing.
    return given.parent.name if given.name == "model" and given.parent.name else given.name


def given_decoder(given: Given, *, dropout_p: float) -> Decoder:
    """Load the decoder, with ``dropout_p`` of embeddings and sublayers.

    Raises:
        MissingDependencyError: the package that brings it, or a library that reads it, is not installed.
        RecordError: a file is absent or damaged.
        UnsupportedError: another architecture.
    """
    path = _path(given)
    if not _is_gguf(path):
        return load_decoder(path, dropout_p=dropout_p)
    model = load_gguf(path)
    for part in model.modules():
        if isinstance(part, FastDropout):
            part.p = dropout_p
    return model


def given_tokenizer(given: Given) -> Tokenizer:
    """Load the tokenizer that the decoder was trained with.

    Raises:
        DataError: a file is absent or damaged, or holds no tokenizer.
        MissingDependencyError: as for ``given_decoder``.
        UnsupportedError: a tokenizer of another kind.
    """
    path = _path(given)
    if not path.exists():
        raise DataError(
            f"model.pretrained must be a folder, a GGUF file, 'smollm2' or 'none', got nothing at {path}; check it."
        )
    return load_gguf_tokenizer(path) if _is_gguf(path) else load_tokenizer(path)


def _path(given: Given) -> Path:
    return smollm2_file() if given == "smollm2" else given


def _is_gguf(path: Path) -> bool:
    return path.is_file() or path.suffix == ".gguf"
