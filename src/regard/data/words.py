"""A vocabulary of whole words between white space, for languages that are made of tokens already."""

from collections import Counter
from collections.abc import Iterable

from regard._errors import ArgumentError, DataError
from regard.data.tokens import BEGIN, END, PADDING, Tokenizer, tokenizers_library

__all__ = ["word_tokenizer"]

_UNKNOWN = "<unk>"


def word_tokenizer(texts: Iterable[str], *, min_frequency: int = 1) -> Tokenizer:
    """Return a tokenizer whose tokens are the words of ``texts``, the most frequent first.

    Sequences end in ``</s>``; ``<pad>`` has the number 0 and ``<s>``, with which a decoder begins, the number 1. A
    word that was never seen becomes ``<unk>``, which decoding shows.

    Args:
        texts: whose words to have: source and target together for a joint vocabulary; the training split alone.
        min_frequency: how often a word must be seen.

    Raises:
        ArgumentError: ``min_frequency`` is below 1.
        DataError: the texts hold no such word, or one that looks like a special token.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    Example:
        >>> tokenizer = word_tokenizer(["jump twice", "I_JUMP I_JUMP"])
        >>> tokenizer.encode(["jump thrice"], max_len=9).ids
        [[5, 3, 2]]
        >>> tokenizer.decode([4, 4, 3, 2])
        'I_JUMP I_JUMP <unk>'
    """
    if min_frequency < 1:
        raise ArgumentError(f"min_frequency must be at least 1, got {min_frequency}.")
    tokenizers = tokenizers_library()
    counts = Counter(word for text in texts for word in text.split())
    words = sorted((word for word in counts if counts[word] >= min_frequency), key=lambda word: (-counts[word], word))
    if not words:
        raise DataError("A vocabulary needs texts with words, got none; check what was read, or lower min_frequency.")
    special = [PADDING, BEGIN, END, _UNKNOWN]
    if taken := sorted(set(words) & set(special)):
        raise DataError(f"A word must not look like a special token, got {', '.join(taken)} in the texts; rename it.")
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    # A text that spells the name of a special token has a word that was never seen, and does not end there.
    names = tokenizers.Regex(rf"(?<!\S)({PADDING}|{BEGIN}|{END})(?!\S)")
    backend.normalizer = tokenizers.normalizers.Replace(names, _UNKNOWN)
    backend.add_special_tokens([PADDING, BEGIN, END])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocabulary[END])]
    )
    return Tokenizer(backend)
