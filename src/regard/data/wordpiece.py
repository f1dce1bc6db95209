"""Learn a WordPiece vocabulary that is the same in every process.

The library numbers the letters inside words in an order that changes from process to process, and with it the choice
between pairs that are equally frequent. Naming those letters as special tokens while learning fixes their numbers; the
tokenizer is then built anew from the vocabulary, in which they are ordinary.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from regard._errors import ArgumentError, DataError
from regard.data.tokens import Tokenizer, tokenizers_library

__all__ = ["train_wordpiece"]

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_wordpiece(
    texts: Iterable[str], *, vocab_size: int, lowercase: bool = True, min_frequency: int = 2
) -> Tokenizer:
    """Learn a WordPiece vocabulary, for a model that is trained from scratch.

    Sequences come out as BERT has them: ``[CLS]``, the text, ``[SEP]``; ``[PAD]`` has the number 0.

    Args:
        texts: what to learn from; use the training split alone.
        vocab_size: most tokens to have, special ones included; fewer if the texts do not yield them.
        lowercase: whether to fold case and strip accents, also later when encoding.
        min_frequency: how often a pair must be seen to be merged.

    Returns:
        The tokenizer.

    Raises:
        ArgumentError: ``vocab_size`` has no room beside the special tokens.
        DataError: the texts hold nothing to learn from.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    References:
        Devlin et al., "BERT", arXiv 1810.04805; Wu et al., arXiv 1609.08144 (WordPiece).
    """
    if vocab_size < len(_SPECIAL) + 2:
        least = f"at least {len(_SPECIAL) + 2}, the special tokens and a letter"
        raise ArgumentError(f"vocab_size must be {least}, got {vocab_size}; 8000 suits a small model.")
    tokenizers = tokenizers_library()
    learner = _bert_backend(tokenizers, {}, lowercase)
    words = _word_counts(learner, texts)
    if not words:
        raise DataError("A vocabulary needs texts with words to learn from, got none; check the column of the texts.")
    first, later = _alphabet(words, room=(vocab_size - len(_SPECIAL)) // 2)
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*_SPECIAL, *(f"##{letter}" for letter in later)],
        initial_alphabet=first,
        limit_alphabet=len(first),
        show_progress=False,
    )
    learner.train_from_iterator((word for word, count in words.items() for _ in range(count)), trainer)
    backend = _bert_backend(tokenizers, learner.get_vocab(with_added_tokens=True), lowercase)
    backend.add_special_tokens(_SPECIAL)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return Tokenizer(backend)


def _bert_backend(tokenizers: Any, vocabulary: dict[str, int], lowercase: bool) -> Any:
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    return backend


def _word_counts(backend: Any, texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text)
        counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    return counts


def _alphabet(words: Counter[str], *, room: int) -> tuple[list[str], list[str]]:
    """Return the letters to have, the most frequent ``room`` of them, and those that stand inside words too."""
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    first = sorted(sorted(letters, key=lambda letter: (-letters[letter], letter))[:room])
    inside = {letter for word in words for letter in word[1:]}
    return first, [letter for letter in first if letter in inside]
