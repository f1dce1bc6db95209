"""From sub-word tokens to the words that a person reads: WordPiece, byte-level BPE, SentencePiece."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from regard._errors import ArgumentError

__all__ = ["Word", "find_words", "token_texts", "words_of"]

Scheme = Literal["wordpiece", "bpe", "sentencepiece"]

_SPECIAL = re.compile(r"\[[A-Z]+\d*\]|\[unused\d+\]|<(?!0x[0-9A-F]{2}>)[^<>\s]+>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Word:
    """A word of a sentence: its text and the indices of its tokens, in order."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """What a token says: the bytes of its text, and whether it stands alone, begins or continues a word."""

    text: bytes
    special: bool = False
    begins: bool = False
    continues: bool = False

    @property
    def separate(self) -> bool:
        """Whether it is punctuation, which is no part of the word before it."""
        text = self.text.decode(errors="ignore").strip()
        return bool(text) and all(unicodedata.category(sign)[0] in "PS" for sign in text)


def words_of(
    tokens: Sequence[str],
    *,
    word_ids: Sequence[int | None] | None = None,
    offsets: Sequence[tuple[int, int]] | None = None,
    text: str | None = None,
    scheme: Scheme | None = None,
) -> list[Word]:
    """Merge the tokens of a sentence into words.

    A token continues the word before it if WordPiece marks it so (``##``), or if byte-level BPE (``Ġ``) or
    SentencePiece (``▁``) does not mark that a word begins. Special tokens such as ``[CLS]`` or ``</s>`` stay
    themselves, and punctuation is a word of its own. Text without spaces, such as Chinese in SentencePiece, is one
    word, as the tokenizer has it.

    Args:
        tokens: the strings of the vocabulary, with their marks.
        word_ids: where the tokenizer says it, the number of the word of each token, None for special tokens; it
            decides alone.
        offsets: where the tokenizer says it, first and last + 1 character of each token in the text; (0, 0) for a
            special token. They decide in place of the marks where ``text`` is given.
        text: what was tokenized; words are then cut from it where ``offsets`` are given.
        scheme: ``"wordpiece"``, ``"bpe"`` or ``"sentencepiece"``; by default the marks tell.

    Raises:
        ArgumentError: ``word_ids`` or ``offsets`` are not one per token, or one of ``offsets`` and ``text`` is missing.

    Example:
        >>> [word.text for word in words_of(["[CLS]", "un", "##believ", "##able", "!", "[SEP]"])]
        ['[CLS]', 'unbelievable', '!', '[SEP]']
        >>> words_of(["The", "Ġbull", "dog"])
        [Word(text='The', tokens=(0,)), Word(text='bulldog', tokens=(1, 2))]
    """
    for name, given in (("word_ids", word_ids), ("offsets", offsets)):
        if given is not None and len(given) != len(tokens):
            raise ArgumentError(f"{name} must be one per token, {len(tokens)}, got {len(given)}.")
    if (offsets is None) != (text is None):
        missing = "text" if text is None else "offsets"
        raise ArgumentError(f"offsets and text belong together, got no {missing}; give both or neither.")
    pieces = _pieces(tokens, scheme or _scheme_of(tokens))
    if word_ids is not None:
        groups = _by_word_ids(word_ids)
    elif offsets is not None and text is not None:
        groups = _by_offsets(pieces, offsets, text)
    else:
        groups = _by_marks(pieces)
    return [Word(_text(group, tokens, pieces, offsets, text), tuple(group)) for group in groups]


def find_words(words: Sequence[Word], text: str) -> list[Word]:
    """Return every occurrence of a word, whatever its case.

    Raises:
        ArgumentError: it does not occur; the message names the words that there are.
    """
    found = [word for word in words if word.text.casefold() == text.casefold()]
    if not found:
        there = ", ".join(dict.fromkeys(word.text for word in words)) or "none"
        raise ArgumentError(f"A word of the sentence is needed, got {text!r}; there are: {there}.")
    return found


def token_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return the vocabulary's strings of token numbers, with their marks.

    Args:
        tokenizer: of ``transformers`` (``convert_ids_to_tokens``), of ``tokenizers`` (``id_to_token``), or a function
            from a list of numbers to a list of strings.
        ids: token numbers.

    Raises:
        ArgumentError: it is none of these, or does not know a number.
    """
    numbers = [int(number) for number in ids]
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        found = tokenizer.convert_ids_to_tokens(numbers)
    elif hasattr(tokenizer, "id_to_token"):
        found = [tokenizer.id_to_token(number) for number in numbers]
    elif callable(tokenizer):
        found = tokenizer(numbers)
    else:
        raise ArgumentError(
            "A tokenizer must have convert_ids_to_tokens or id_to_token, or be a function from numbers to strings, "
            f"got {type(tokenizer).__name__}."
        )
    found = list(found)
    unknown = [number for number, token in zip(numbers, found, strict=False) if not isinstance(token, str)]
    if unknown or len(found) != len(numbers):
        raise ArgumentError(
            f"The tokenizer must give one string per token number, got {len(found)} for {len(numbers)} numbers"
            f"{f' and none for {unknown[:5]}' if unknown else ''}; is it the one that the model was trained with?"
        )
    return found


def _scheme_of(tokens: Sequence[str]) -> Scheme:
    plain = [token for token in tokens if not _SPECIAL.fullmatch(token)]
    if any("Ġ" in token or "Ċ" in token for token in plain):
        return "bpe"
    if any(token.startswith("▁") or _BYTE.fullmatch(token) for token in plain):
        return "sentencepiece"
    return "wordpiece"


def _pieces(tokens: Sequence[str], scheme: Scheme) -> list[_Piece]:
    read = {"wordpiece": _wordpiece, "bpe": _bpe, "sentencepiece": _sentencepiece}[scheme]
    return [
        _Piece(token.encode(), special=True) if _SPECIAL.fullmatch(token) else read(token) for token in tokens
    ]  # fmt: skip


def _wordpiece(token: str) -> _Piece:
    if token.startswith("##") and len(token) > 2:
        return _Piece(token[2:].encode(), continues=True)
    return _Piece(token.encode(), begins=True)


def _bpe(token: str) -> _Piece:
    signs = _byte_of_sign()
    text = b"".join(bytes([signs[sign]]) if sign in signs else sign.encode() for sign in token)
    return _Piece(text, begins=text[:1].isspace())


def _sentencepiece(token: str) -> _Piece:
    byte = _BYTE.fullmatch(token)
    if byte:
        return _Piece(bytes([int(byte[1], 16)]))
    return _Piece(token.replace("▁", " ").encode(), begins=token.startswith("▁"))


def _by_marks(pieces: Sequence[_Piece]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, piece in enumerate(pieces):
        before = pieces[groups[-1][-1]] if groups else None
        if before is None or piece.special or before.special:
            begins = True
        elif not _joined(groups[-1], pieces).strip():
            begins = False  # only spaces so far: they belong to what follows
        elif piece.continues:
            begins = False
        else:
            begins = piece.begins or piece.separate or before.separate
        if begins:
            groups.append([index])
        else:
            groups[-1].append(index)
    return groups


def _by_word_ids(word_ids: Sequence[int | None]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, number in enumerate(word_ids):
        if index and number is not None and number == word_ids[index - 1]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _by_offsets(pieces: Sequence[_Piece], offsets: Sequence[tuple[int, int]], text: str) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, (start, stop) in enumerate(offsets):
        before = index - 1
        begins = (
            not groups
            or start == stop
            or offsets[before][0] == offsets[before][1]
            or start > offsets[before][1]
            or text[start].isspace()
            or pieces[index].separate
            or pieces[before].separate
        )
        if begins:
            groups.append([index])
        else:
            groups[-1].append(index)
    return groups


def _joined(group: Sequence[int], pieces: Sequence[_Piece]) -> str:
    return b"".join(pieces[index].text for index in group).decode(errors="replace")


def _text(
    group: Sequence[int],
    tokens: Sequence[str],
    pieces: Sequence[_Piece],
    offsets: Sequence[tuple[int, int]] | None,
    text: str | None,
) -> str:
    cut = "" if offsets is None or text is None else text[offsets[group[0]][0] : offsets[group[-1]][1]]
    return cut.strip() or _joined(group, pieces).strip() or "".join(tokens[index] for index in group)


@cache
def _byte_of_sign() -> dict[str, int]:
    """Return the byte that each sign of byte-level BPE stands for (Radford et al., GPT-2, ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
