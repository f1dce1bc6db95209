"""Texts to token numbers, with the true length of each before truncation."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from regard._errors import ArgumentError, DataError, MissingDependencyError
from regard.records import write_bytes

__all__ = [
    "BEGIN",
    "END",
    "PADDING",
    "Encoded",
    "Tokenizer",
    "WordPieces",
    "load_tokenizer",
    "tokenizers_library",
]

PADDING, BEGIN, END = "<pad>", "<s>", "</s>"
"""Special tokens of the vocabularies that a decoder writes with."""

_CHUNK = 512  # texts between two calls of a progress callback

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token numbers of some texts.

    Attributes:
        ids: per text its token numbers, at most ``max_len`` of them.
        lengths: per text its number of tokens before truncation, special tokens included.
    """

    ids: list[list[int]]
    lengths: list[int]


@dataclass(frozen=True, kw_only=True)
class WordPieces:
    """Token numbers of a sentence, word by word.

    Attributes:
        before: special tokens before the first word.
        words: per word the numbers of its pieces, one or more.
        after: special tokens behind the last word.
    """

    before: list[int]
    words: list[list[int]]
    after: list[int]


class Tokenizer:
    """A tokenizer of the ``tokenizers`` library that pads nothing and truncates only as asked.

    Example:
        >>> from regard.data import train_wordpiece
        >>> tokenizer = train_wordpiece(["a cat", "a cat sat"], vocab_size=40)
        >>> encoded = tokenizer.encode(["a cat"], max_len=8)
        >>> encoded.lengths
        [4]
    """

    def __init__(self, backend: Any) -> None:
        backend.no_padding()
        backend.no_truncation()
        if any(backend.token_to_id(token) is not None for token in (END, PADDING)):
            # A text that spells "</s>" speaks of it and does not end there.
            backend.encode_special_tokens = True
        self._backend = backend

    @property
    def vocab_size(self) -> int:
        """Number of token numbers, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def id_of(self, token: str) -> int:
        """Return the number of ``token``.

        Raises:
            DataError: the vocabulary does not have it.
        """
        return self._special(f"A vocabulary with {token} is needed", token)

    @property
    def pad_id(self) -> int:
        """Number of the padding token.

        Raises:
            DataError: the vocabulary has none.
        """
        return self._special("Batches need a padding token", "[PAD]", PADDING)

    @property
    def bos_id(self) -> int:
        """Number of the token that a decoder begins with.

        Raises:
            DataError: the vocabulary has none.
        """
        return self._special("A decoder needs a token to begin with", BEGIN, "[CLS]")

    @property
    def eos_id(self) -> int:
        """Number of the token that ends a text.

        Raises:
            DataError: the vocabulary has none.
        """
        return self._special("A decoder needs a token to end with", END, "[SEP]")

    @property
    def unknown_id(self) -> int | None:
        """Number of the token for what the vocabulary does not have, None where everything is known."""
        token = getattr(self._backend.model, "unk_token", None)
        found = None if token is None else self._backend.token_to_id(token)
        return None if found is None else int(found)

    def encode(self, texts: Sequence[str], max_len: int, *, progress: Progress | None = None) -> Encoded:
        """Turn texts into token numbers.

        A text that is too long loses the end of its own tokens and keeps the special tokens around them, so that a
        truncated sequence still ends in ``[SEP]``.

        Args:
            texts: the documents; an empty one becomes its special tokens alone.
            max_len: most tokens to keep, special tokens included.
            progress: called now and then with the number of texts done and of all.

        Returns:
            The token numbers and the lengths before truncation.

        Raises:
            ArgumentError: ``max_len`` leaves no room for a token beside the special ones.
        """
        num_special = int(self._backend.num_special_tokens_to_add(False))
        if max_len <= num_special:
            raise ArgumentError(
                f"max_len must be greater than the {num_special} special tokens, got {max_len}; 256 suits most texts."
            )
        ids: list[list[int]] = []
        lengths: list[int] = []
        for first in range(0, len(texts), _CHUNK):
            for encoding in self._backend.encode_batch(list(texts[first : first + _CHUNK])):
                lengths.append(len(encoding))
                ids.append(encoding.ids if len(encoding) <= max_len else _truncated(encoding, max_len))
            if progress is not None:
                progress(len(ids), len(texts))
        return Encoded(ids=ids, lengths=lengths)

    def encode_pieces(self, lines: Sequence[str]) -> Iterator[list[tuple[int, int]]]:
        """Yield the tokens of each line: number, and where in the line it ends; nothing is put around a line."""
        for first in range(0, len(lines), _CHUNK):
            for encoding in self._backend.encode_batch(list(lines[first : first + _CHUNK]), add_special_tokens=False):
                yield [(number, end) for number, (_, end) in zip(encoding.ids, encoding.offsets, strict=True)]

    def encode_words(self, sentences: Sequence[Sequence[str]]) -> list[WordPieces]:
        """Turn sentences that are cut into words already into token numbers, each word by itself.

        A word of which the tokenizer keeps nothing, such as a control character, becomes the token of unknown words.

        Raises:
            DataError: there is such a word, and the vocabulary has no token for it.
        """
        found = []
        for first in range(0, len(sentences), _CHUNK):
            chunk = [list(words) for words in sentences[first : first + _CHUNK]]
            for words, encoding in zip(chunk, self._backend.encode_batch(chunk, is_pretokenized=True), strict=True):
                found.append(self._pieces(len(words), encoding))
        return found

    def _pieces(self, num_words: int, encoding: Any) -> WordPieces:
        before: list[int] = []
        after: list[int] = []
        words: list[list[int]] = [[] for _ in range(num_words)]
        special, begun = encoding.special_tokens_mask, False
        for number, word, is_special in zip(encoding.ids, encoding.word_ids, special, strict=True):
            if is_special:
                (after if begun else before).append(number)
            else:
                begun = True
                words[word].append(number)
        if not all(words):
            unknown = self._special("A word that the tokenizer keeps nothing of needs a token", "[UNK]", "<unk>")
            words = [pieces or [unknown] for pieces in words]
        return WordPieces(before=before, words=words, after=after)

    def read_spans(self, text: str) -> list[tuple[int, int]]:
        """Return which characters of ``text`` each of its tokens stands for, without the white space before them.

        A special token stands for none: its span is empty and lies at the end of the text. Where a character is made of
        several tokens, each of them stands for it.
        """
        encoding = self._backend.encode(text)
        places = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return [(len(text),) * 2 if special else _trimmed(text, *span) for span, special in places]

    def written_spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return which characters of ``decode(ids)`` each token wrote, without the white space before them.

        A special token wrote none: its span is empty. A character that several tokens make together belongs to each.
        """
        text = self.decode(ids)
        spans = []
        start = 0
        for number in range(len(ids)):
            known = self.decode(ids[: number + 1])
            # A prefix that ends within a character decodes to another one there; the character is still the token's.
            end = max(start, _agreement(known, text))
            spans.append(_trimmed(text, start, end if text.startswith(known) else end + 1))
            start = end
        return spans

    def decode(self, ids: Sequence[int]) -> str:
        """Turn token numbers back into text, special tokens left out."""
        return str(self._backend.decode(list(ids)))

    def _special(self, need: str, *tokens: str) -> int:
        numbers = [self._backend.token_to_id(token) for token in tokens]
        found = next((number for number in numbers if number is not None), None)
        if found is None:
            raise DataError(f"{need}, got a tokenizer without {' or '.join(tokens)}; add one to it.")
        return int(found)

    def save(self, folder: str | Path) -> Path:
        """Write ``tokenizer.json`` into ``folder`` atomically and return its path."""
        path = Path(folder) / "tokenizer.json"
        write_bytes(path, self._backend.to_str(pretty=True).encode("utf-8"))
        return path


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read ``tokenizer.json`` from the folder of a model.

    Raises:
        DataError: the file is missing or is not a tokenizer.
        MissingDependencyError: the library ``tokenizers`` is not installed.
    """
    tokenizers = tokenizers_library()
    path = Path(folder) / "tokenizer.json"
    try:
        content = path.read_text(encoding="utf-8")
        json.loads(content)
    except FileNotFoundError as error:
        raise DataError(
            f"A model folder with tokenizer.json is needed, got no file at {path}; check the path."
        ) from error
    except ValueError as error:
        raise DataError(f"{path} must be a tokenizer in JSON, got something else ({error}); copy it again.") from error
    try:
        return Tokenizer(tokenizers.Tokenizer.from_str(content))
    except Exception as error:  # the library raises just that for every content it cannot take
        raise DataError(f"{path} must be a tokenizer of the library tokenizers, got: {error}") from error


def _agreement(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    if other.startswith(one):
        return len(one)
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    inner = text[start:end]
    return start + len(inner) - len(inner.lstrip()), end


def _truncated(encoding: Any, max_len: int) -> list[int]:
    special = encoding.special_tokens_mask
    num_last = special[::-1].index(0)  # a text longer than max_len has a token of its own
    ids: list[int] = encoding.ids
    return ids[: max_len - num_last] + ids[len(ids) - num_last :]


def tokenizers_library() -> Any:
    """Import the library, which is optional.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module("tokenizers")
    except ImportError as error:
        raise MissingDependencyError(
            "Turning text into tokens needs the library tokenizers, which is not installed; "
            "run `pip install 'regard[train]'`."
        ) from error
