"""The tokenizer that a GGUF file carries beside its weights."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from regard._errors import DataError, MissingDependencyError, UnsupportedError
from regard.data.tokens import Tokenizer, tokenizers_library

__all__ = ["load_gguf_tokenizer"]

_PIECES = "tokenizer.ggml.tokens"
_KINDS = "tokenizer.ggml.token_type"
_MERGES = "tokenizer.ggml.merges"
_CONTROL = 3
_DIGITS_APART = {"gpt-2": False, "smollm": True}
"""How texts are cut before pairs are merged (``tokenizer.ggml.pre``) -> whether each digit stands alone."""
_ADDED = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix")


def load_gguf_tokenizer(path: str | Path) -> Tokenizer:
    """Return the byte-level tokenizer of a GGUF file, without anything put around a text.

    Args:
        path: of the ``.gguf`` file.

    Raises:
        DataError: the file is absent or damaged, or holds no tokenizer.
        MissingDependencyError: the library ``gguf`` or ``tokenizers`` is not installed.
        UnsupportedError: a tokenizer of another kind; what is not supported is named.

    References:
        Sennrich et al., Neural machine translation of rare words with subword units, arXiv:1508.07909; Radford et al.,
        Language models are unsupervised multitask learners (2019), section 2.2.
    """
    fields = _fields(Path(path))
    pre = _understood(fields, str(path))
    library = tokenizers_library()
    pieces = fields[_PIECES]
    merges = [tuple(pair.split(" ")) for pair in fields[_MERGES]]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    backend = library.Tokenizer(library.models.BPE(vocab=vocabulary, merges=merges))
    bytes_of = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = [library.pre_tokenizers.Digits(individual_digits=True)] if _DIGITS_APART[pre] else []
    backend.pre_tokenizer = library.pre_tokenizers.Sequence([*digits, bytes_of])
    backend.decoder = library.decoders.ByteLevel()
    control = [piece for piece, kind in zip(pieces, fields[_KINDS], strict=True) if kind == _CONTROL]
    backend.add_special_tokens([library.AddedToken(piece, special=True, normalized=False) for piece in control])
    return Tokenizer(backend)


def _fields(path: Path) -> dict[str, Any]:
    try:
        library = import_module("gguf")
    except ImportError as error:
        raise MissingDependencyError(
            "Reading GGUF files needs the library gguf, which is not installed; run `pip install 'regard[gguf]'`."
        ) from error
    try:
        reader = library.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"A GGUF file is needed, got {path} ({error}); copy it again.") from error
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}


def _understood(fields: Mapping[str, Any], source: str) -> str:
    """Return how texts are cut, after looking at what else there is."""
    model, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    if model is None:
        raise DataError(f"{source} must hold a tokenizer, got none; take it from the model's own folder.")
    if model != "gpt2" or pre not in _DIGITS_APART:
        known = ", ".join(map(repr, _DIGITS_APART))
        raise UnsupportedError(
            f"{source} must hold a tokenizer of the kind 'gpt2' cut as one of {known}, got {model!r} cut as {pre!r}."
        )
    added = [key for key in _ADDED if fields.get(key)]
    if added:
        raise UnsupportedError(f"{source} must put nothing around a text, got {', '.join(added)}.")
    if missing := [key for key in (_PIECES, _KINDS, _MERGES) if key not in fields]:
        raise DataError(f"{source} must hold {', '.join(missing)}, got none; the file is damaged.")
    return str(pre)
