"""A text and what stood before it as one sequence of tokens."""

from collections.abc import Sequence

from regard._errors import ArgumentError
from regard.data.tokens import Encoded, Tokenizer

__all__ = ["encode_with_contexts"]


def encode_with_contexts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    contexts: Sequence[Sequence[str]] | None,
    *,
    max_len: int,
    context_len: int,
) -> Encoded:
    """Turn each text, and behind it the texts before it, the nearest first, into one sequence.

    Each text ends in its end token, which is what separates them. The text itself stands first, so that it has the same
    positions whatever its context is, and what is cut off at the right is what is farthest.

    Args:
        tokenizer: of the source.
        texts: what is to be translated.
        contexts: per text those before it, the nearest first; None for none.
        max_len: most tokens of a text.
        context_len: most tokens of its context.

    Returns:
        The sequences, at most ``max_len + context_len`` long, and the lengths of the texts alone before truncation.

    Raises:
        ArgumentError: there is not one context for each text.

    Example:
        >>> from regard.data import word_tokenizer
        >>> tokenizer = word_tokenizer(["c", "b", "a"])  # <pad> <s> </s> <unk> a b c
        >>> encode_with_contexts(tokenizer, ["c"], [["b", "a"]], max_len=8, context_len=3).ids
        [[6, 2, 5, 2, 4]]
    """
    own = tokenizer.encode(texts, max_len)
    if contexts is None:
        return own
    if len(contexts) != len(texts):
        raise ArgumentError(f"contexts must hold one for each of {len(texts)} texts, got {len(contexts)}.")
    distinct = list(dict.fromkeys(text for context in contexts for text in context))
    # A context that is longer than its room is cut below; none is longer than a text may be.
    known = dict(zip(distinct, tokenizer.encode(distinct, max(max_len, context_len)).ids, strict=True))
    behind = [[token for text in context for token in known[text]] for context in contexts]
    ids = [[*one, *more[:context_len]] for one, more in zip(own.ids, behind, strict=True)]
    return Encoded(ids=ids, lengths=own.lengths)
