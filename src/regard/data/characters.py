"""A vocabulary of single characters."""

from regard._errors import DataError
from regard.data.tokens import Tokenizer, tokenizers_library

__all__ = ["character_tokenizer"]

_PADDING, _UNKNOWN = "<pad>", "<unk>"


def character_tokenizer(text: str) -> Tokenizer:
    """Return a tokenizer with a token for each character of ``text``, in the order of their code points.

    ``<pad>`` has the number 0 and ``<unk>``, for a character that ``text`` does not have, the number 1. Nothing is put
    around a text, and decoding gives back the text to the letter.

    Raises:
        DataError: ``text`` is empty.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    Example:
        >>> character_tokenizer("banana").encode(["nab"], max_len=8).ids
        [[4, 2, 3]]
    """
    if not text:
        raise DataError("A vocabulary of characters needs a text to learn from, got an empty one.")
    tokenizers = tokenizers_library()
    numbers = {token: number for number, token in enumerate([_PADDING, _UNKNOWN, *sorted(set(text))])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token=_UNKNOWN))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    return Tokenizer(backend)
