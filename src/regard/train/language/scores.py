"""The figures of a language model on its test text, per token, byte and word, and the baselines beside it."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from regard.data import RunningTokens, consecutive_windows
from regard.evaluate import Metric, NGram, RowSums, mean
from regard.train.language.config import LanguageData
from regard.train.language.corpus import LanguageCorpus

__all__ = ["counted_baselines", "language_metrics", "row_sums", "told_of_unknowns"]

_ORDERS = {"characters": 8}  # longest n-gram that is tried
_ORDER_OF_WORDS = 5

_Floats = npt.NDArray[np.float64]


def language_metrics(config: LanguageData, corpus: LanguageCorpus) -> tuple[Metric, ...]:
    """Return what is measured; the first one decides the comparison with the baselines.

    Figures per token compare models of one tokenisation alone; bits a byte and the perplexity per word, the words
    between white space, compare any. Where tokens stand for what the vocabulary does not have, both are of an easier
    text than the one that was given: the title says so, and bits a byte are left out, unless only characters are
    missing.
    """
    unknown = corpus.num_unknown("test") > 0
    with_unknown = ", with <unk>" if unknown else ""
    loss = _metric("loss", "Nats per token", "nats", "tokens")
    perplexity = _metric("perplexity", "Perplexity per token", "nats", "tokens", exponent=True)
    bits = _metric("bits_per_byte", f"Bits per byte{with_unknown}", "bits", "bytes")
    of_words = _metric("word_perplexity", f"Perplexity per word{with_unknown}", "nats", "words", exponent=True)
    if config.tokens == "characters":
        return loss, perplexity, bits, of_words
    return (loss, of_words, perplexity) if unknown else (loss, bits, of_words, perplexity)


def told_of_unknowns(corpus: LanguageCorpus) -> str:
    """Return what a person must know of the figures, behind how their intervals were made; empty where all is known."""
    count = corpus.num_unknown("test")
    if not count:
        return ""
    share = count / len(corpus.ids["test"])
    return (
        f"; {count:,} of the test tokens ({share:.1%}) are not in the vocabulary, so all figures are of the text with "
        "<unk> in their place"
    )


def _metric(name: str, title: str, total: str, count: str, *, exponent: bool = False) -> Metric:
    columns, per = mean(total, count)

    def perplexity(sums: _Floats) -> Any:
        with np.errstate(over="ignore"):
            found = np.exp(per(sums))
        # A language without white space has sentences for words; no number holds how many of them there are.
        return np.where(np.isfinite(found), found, np.nan)

    return Metric(name=name, title=title, columns=columns, of=perplexity if exponent else per, lower_is_better=True)


def row_sums(name: str, kind: str, nats: _Floats, test: RunningTokens, window: int, details: dict[str, Any]) -> RowSums:
    """Return the sums over each window of the test text.

    Args:
        name: of the model.
        kind: ``model`` or ``baseline``.
        nats: of each token but the first, which nothing predicts: its bytes and words count nowhere.
        test: the text.
        window: tokens that a model sees at once.
        details: for the table of models.
    """
    windows = consecutive_windows(len(test.ids), window)
    sums = np.array([nats[first:last].sum() for first, last in windows])
    firsts = [first for first, _ in windows]
    columns = {
        "nats": sums,
        "tokens": np.array([last - first for first, last in windows]),
        "bits": sums / math.log(2),
        "bytes": np.add.reduceat(test.num_bytes[1:], firsts),
        "words": np.add.reduceat(test.num_words[1:], firsts),
    }
    return RowSums(name=name, kind=kind, columns=columns, details=details)


def counted_baselines(config: LanguageData, corpus: LanguageCorpus) -> Iterator[tuple[str, _Floats, dict[str, Any]]]:
    """Yield n-grams of the length that predicts the validation text best, and single tokens.

    Returns:
        Name, nats of each token of the test text but the first, and details.
    """
    longest = min(_ORDERS.get(config.tokens, _ORDER_OF_WORDS), len(corpus.ids["train"]))
    counted = NGram(corpus.ids["train"], vocab_size=corpus.tokenizer.vocab_size, order=longest)
    validated = {
        order: float(counted.nats(corpus.ids["validation"], order=order).mean()) for order in range(1, longest + 1)
    }
    best = min(validated, key=lambda order: validated[order])
    for order in dict.fromkeys((best, 1)):
        name = "single tokens" if order == 1 else f"{order}-grams, Witten–Bell"
        yield name, counted.nats(corpus.ids["test"], order=order)[1:], {"order": order}
