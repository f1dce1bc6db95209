"""Vocabularies for one long text, and the text as tokens that know which of its bytes and words they stand for."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from regard._errors import ArgumentError, DataError
from regard.data.tokens import PADDING, Tokenizer, tokenizers_library

__all__ = ["RunningTokens", "encode_running", "running_subwords", "running_words"]

_UNKNOWN = "<unk>"
_LEAST = 257  # padding and all bytes
_SEEN = 2  # times: what stands once teaches nothing but that there are unknown words
_PIECES = r"[^\S\n]*\n| ?<unk>| ?\w+| ?[^\w\s]+|\s"
"""A line end with the blanks before it; a word, or marks of punctuation, with the space before; other white space."""


@dataclass(frozen=True, kw_only=True)
class RunningTokens:
    """A text as tokens.

    Attributes:
        ids: token numbers, (tokens,).
        num_bytes: bytes of UTF-8 that each token adds, (tokens,); their sum is the size of the text. A character that
            several tokens make together counts at the first of them.
        num_words: words between white space that begin in each token, (tokens,).
    """

    ids: Int[np.ndarray, " tokens"]
    num_bytes: Int[np.ndarray, " tokens"]
    num_words: Int[np.ndarray, " tokens"]


def encode_running(tokenizer: Tokenizer, text: str) -> RunningTokens:
    r"""Turn a text into tokens line by line, without anything put around it.

    No token runs over a line end, so that a line is the same tokens wherever it stands.

    Example:
        >>> encoded = encode_running(running_subwords("ein Hund\nein Huhn\n", vocab_size=260), "ein Hahn\n")
        >>> int(encoded.num_bytes.sum()), int(encoded.num_words.sum())
        (9, 2)
    """
    lines = text.splitlines(keepends=True)
    ids: list[int] = []
    ends: list[int] = []
    begin = 0
    for line, pieces in zip(lines, tokenizer.encode_pieces(lines), strict=True):
        ids += (number for number, _ in pieces)
        ends += (begin + end for _, end in pieces)
        begin += len(line)
        if pieces:
            ends[-1] = begin  # white space that a tokenizer trims from its spans belongs to the token before
    # What a tokenizer says of its spans may go back by a blank; a token never ends before the one before it.
    stops = np.maximum.accumulate(np.array(ends, dtype=np.int64))
    size = np.concatenate([[0], np.cumsum(_widths(text))])
    begins = np.fromiter((found.start() for found in re.finditer(r"\S+", text)), dtype=np.int64)
    return RunningTokens(
        ids=np.array(ids, dtype=np.int64),
        num_bytes=np.diff(size[stops], prepend=0),
        num_words=np.diff(np.searchsorted(begins, stops), prepend=0),
    )


def _widths(text: str) -> Int[np.ndarray, " characters"]:
    """Return how many bytes of UTF-8 each character takes."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return np.searchsorted(np.array([0x80, 0x800, 0x10000]), points, side="right") + 1


def running_subwords(text: str, *, vocab_size: int, min_frequency: int = 2) -> Tokenizer:
    r"""Learn a byte-pair vocabulary over bytes, for a model that reads on through one text.

    No text is unknown, and decoding gives back every text as it was. Words are merged with the space before them, and
    nothing is put around a text. ``<pad>`` has the number 0.

    Args:
        text: what to learn from: the training part alone.
        vocab_size: most tokens to have; fewer if the text does not yield them.
        min_frequency: how often a pair must be seen to be merged.

    Raises:
        ArgumentError: ``vocab_size`` has no room beside the padding and the bytes.
        DataError: ``text`` is empty.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    References:
        Sennrich et al., Neural machine translation of rare words with subword units, arXiv:1508.07909; Radford et al.,
        Language models are unsupervised multitask learners (2019), section 2.2, for bytes.

    Example:
        >>> tokenizer = running_subwords("ein Hund läuft, ein Hund bellt", vocab_size=270)
        >>> tokenizer.decode(encode_running(tokenizer, "Ein  Wolf!\n").ids.tolist())
        'Ein  Wolf!\n'
    """
    if vocab_size < _LEAST:
        raise ArgumentError(f"vocab_size must be at least {_LEAST}, the padding and all bytes, got {vocab_size}.")
    _require(text)
    tokenizers = tokenizers_library()
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[PADDING],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(text.splitlines(keepends=True), trainer)
    return Tokenizer(backend)


def running_words(text: str, *, vocab_size: int) -> Tokenizer:
    r"""Return a tokenizer of whole words and marks of punctuation, the most frequent first.

    A token is a word, or a run of marks, with the space before it, or a line end; so what is written stands as it would
    in the text. ``<pad>`` has the number 0 and ``<unk>`` the number 1: every other word, all those that stand in
    ``text`` but once, and the word ``<unk>`` itself, which published texts hold in place of rare words.

    Args:
        text: whose words to have: the training part alone.
        vocab_size: most tokens to have; fewer if the text does not have as many words that stand there twice.

    Raises:
        ArgumentError: ``vocab_size`` has no room for a word beside these two.
        DataError: ``text`` is empty, or no word stands in it twice.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    Example:
        >>> tokenizer = running_words("a cat, a dog\na cat, a cat\n", vocab_size=8)
        >>> tokenizer.decode(encode_running(tokenizer, "a cat, a wolf\n").ids.tolist())
        'a cat, a <unk>\n'
    """
    special = [PADDING, _UNKNOWN]
    if vocab_size <= len(special):
        raise ArgumentError(f"vocab_size must be above {len(special)}, padding and unknown words, got {vocab_size}.")
    _require(text)
    tokenizers = tokenizers_library()
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated")
    counts = Counter(piece for line in text.splitlines(keepends=True) for piece, _ in cut.pre_tokenize_str(line))
    often = [piece for piece in counts if counts[piece] >= _SEEN and piece.removeprefix(" ") != _UNKNOWN]
    kept = sorted(often, key=lambda piece: (-counts[piece], piece))[: vocab_size - len(special)]
    if not kept:
        raise DataError("A vocabulary of words needs a text with words that stand in it twice, got none; give more.")
    numbers = {piece: number for number, piece in enumerate([*special, *kept])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=_UNKNOWN))
    backend.pre_tokenizer = cut
    decoders = tokenizers.decoders
    backend.decoder = decoders.Sequence([decoders.Replace(_UNKNOWN, f" {_UNKNOWN}"), decoders.Fuse()])
    return Tokenizer(backend)


def _require(text: str) -> None:
    if not text.strip():
        raise DataError("A vocabulary needs a text to learn from, got none but white space; check what was read.")
