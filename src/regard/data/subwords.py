"""Learn a vocabulary of subwords that gives back every text as it was."""

from collections.abc import Iterable

from regard._errors import ArgumentError, DataError
from regard.data.tokens import BEGIN, END, PADDING, Tokenizer, tokenizers_library

__all__ = ["train_subwords"]

_SPECIAL = [PADDING, BEGIN, END]
_BYTES = 256


def train_subwords(texts: Iterable[str], *, vocab_size: int, min_frequency: int = 2) -> Tokenizer:
    """Learn a byte-pair vocabulary over bytes, for a model that writes text.

    Case, spaces and every character survive: a token is a run of bytes, and no text is unknown. Words are merged with
    the space before them, the first word of a text too. Sequences end in ``</s>``; ``<pad>`` has the number 0 and
    ``<s>``, with which a decoder begins, the number 1.

    Args:
        texts: what to learn from: source and target together for a joint vocabulary; the training split alone.
        vocab_size: most tokens to have, special ones included; fewer if the texts do not yield them.
        min_frequency: how often a pair must be seen to be merged.

    Returns:
        The tokenizer; the same texts give the same one in every process.

    Raises:
        ArgumentError: ``vocab_size`` has no room beside the special tokens and the bytes.
        DataError: the texts hold nothing to learn from.
        MissingDependencyError: the library ``tokenizers`` is not installed.

    References:
        Sennrich et al., Neural machine translation of rare words with subword units, arXiv:1508.07909; Radford et al.,
        Language models are unsupervised multitask learners (2019), section 2.2, for bytes.

    Example:
        >>> tokenizer = train_subwords(["ein Hund läuft", "ein Hund bellt"], vocab_size=270)
        >>> tokenizer.decode(tokenizer.encode(["Ein  Wolf!"], max_len=20).ids[0])
        'Ein  Wolf!'
    """
    least = len(_SPECIAL) + _BYTES
    if vocab_size < least:
        raise ArgumentError(f"vocab_size must be at least {least}, the special tokens and all bytes, got {vocab_size}.")
    tokenizers = tokenizers_library()
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    # A space before the first word makes it the same word as inside a text; the decoder takes it away again.
    backend.normalizer = tokenizers.normalizers.Prepend(" ")
    decoders = tokenizers.decoders
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(content=" ", left=1, right=0)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    given = [text for text in texts if text.strip()]
    if not given:
        raise DataError("A vocabulary needs texts to learn from, got none but empty ones; check what was read.")
    backend.train_from_iterator(given, trainer)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, backend.token_to_id(END))]
    )
    return Tokenizer(backend)
