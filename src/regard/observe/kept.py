"""A call that was kept to be looked at closely: single weights, words, and how alike its heads are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import Pattern, PatternError, attention_weights, head_similarity, pattern_error
from regard.observe.calls import AttentionCall
from regard.observe.explanation import Explanation, PairWeights
from regard.observe.materialised import similarity_of_scores, weights_of_scores
from regard.observe.words import Word, find_words, words_of

__all__ = ["Explanation", "Kept", "PairWeights", "TopKey", "explain"]

Index = Sequence[int] | slice | Tensor | None
Tokens = Sequence[Sequence[str]] | None

_OF_KEY_HEADS = ("key", "value")


@dataclass(frozen=True, kw_only=True)
class TopKey:
    """A key that a query looks at.

    Attributes:
        key: its index.
        token: its text, None where tokens are not known.
        weight: of the softmax, 0 to 1.
        contribution: weight · |value| as a share of that sum over all keys, 0 to 1: what reaches the head's output. A
            key with a large weight and a small value adds little, as first tokens often do (Kobayashi et al.,
            arXiv:2004.10102). None where the values were not seen.
    """

    key: int
    token: str | None
    weight: float
    contribution: float | None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One attention call of one layer; weights are computed when they are asked for, no more than asked for.

    Attributes:
        call: what the kernel saw, in tensors of its own.
        step: when that was.
        query_tokens: the tokens that ask, one sequence of strings per sequence of the batch, or None.
        key_tokens: likewise those that are looked at.
        query_mask: bool (batch, q_len), True = the query counts in ``redundancy``; by default padding is left out where
            the call's mask shows it: one row of keys for all queries of a sequence.

    Raises:
        ArgumentError: tokens that are not as many as the queries or keys, or a mask of another shape.

    Example:
        >>> query = torch.zeros(1, 2, 3, 4)
        >>> call = AttentionCall(query=query, key=query, causal=True, kernel="math")
        >>> kept = Kept(call=call, query_tokens=[["a", "dog", "barks"]], key_tokens=[["a", "dog", "barks"]])
        >>> kept.weights(0, rows=[1])
        tensor([[0.5000, 0.5000, 0.0000]])
        >>> kept.between("barks", "dog").there
        tensor([0.3333, 0.3333])
    """

    call: AttentionCall
    step: int = 0
    query_tokens: Tokens = None
    key_tokens: Tokens = None
    query_mask: Tensor | None = None

    def __post_init__(self) -> None:
        call = self.call
        for name, lengths in zip(("query_tokens", "key_tokens"), zip(*call.lengths, strict=True), strict=False):
            tokens: Tokens = getattr(self, name)
            if tokens is not None and [len(one) for one in tokens] != list(lengths):
                wanted = f"of {lengths[0]} tokens" if len(set(lengths)) == 1 else f"of {list(lengths)} tokens"
                raise ArgumentError(
                    f"{name} must be {len(lengths)} sequences {wanted}, got {[len(one) for one in tokens]}."
                )
        if self.query_mask is not None and self.query_mask.shape != (call.batch, call.q_len):
            raise ArgumentError(
                f"query_mask must be (batch, q_len) = {(call.batch, call.q_len)}, got {tuple(self.query_mask.shape)}."
            )

    def weights(self, head: int, *, sequence: int = 0, rows: Index = None, keys: Index = None) -> Tensor:
        """Return a block of the weights of one head, (rows, keys) in float32 (float64 for float64).

        Args:
            head: which head.
            sequence: which sequence of the batch.
            rows: which queries: indices, a slice, or None for all.
            keys: which keys, likewise; the softmax is over all keys, whichever are returned.

        Raises:
            ArgumentError: an index that is out of range.
        """
        _check_index("head", head, self.call.num_heads)
        return self._block(sequence, rows, keys, head)[0]

    def top(self, head: int, query: int | str, *, sequence: int = 0, k: int = 10) -> list[TopKey]:
        """Return the keys that a query puts most weight on, the heaviest first; none with the weight 0.

        Args:
            head: which head.
            query: its index, or the word that it is, whatever its case; for a word of several tokens the mean of their
                weights is taken.
            sequence: which sequence of the batch.
            k: how many keys at most.

        Raises:
            ArgumentError: an index out of range, a word that is not there or is there more than once, no tokens.
        """
        if k < 1:
            raise ArgumentError(f"k must be at least 1 key, got {k}.")
        if isinstance(query, str):
            rows = list(self._word("query", query, sequence).tokens)
        else:
            _check_index("query", query, self._part(sequence).q_len)
            rows = [query]
        weights = self.weights(head, sequence=sequence, rows=rows).mean(0)
        shares = self._shares(weights, head, sequence)
        tokens = None if self.key_tokens is None else self.key_tokens[sequence]
        best = weights.topk(min(k, len(weights)))
        return [
            TopKey(
                key=key,
                token=None if tokens is None else tokens[key],
                weight=weight,
                contribution=None if shares is None else float(shares[key]),
            )
            for weight, key in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if weight > 0
        ]

    def between(self, word: str | int, other: str | int, *, sequence: int = 0) -> PairWeights:
        """Return the weights between two words per head, both ways, with their tokens merged.

        The weight *to* a word is the sum over its tokens, the weight *from* a word the mean over its tokens, so that
        the weights from a word to all words still sum to 1.

        Args:
            word: a word, whatever its case, or the index of one of its tokens, for a word that is there more than once.
            other: another one, likewise.
            sequence: which sequence of the batch.

        Returns:
            Both directions; NaN for one that the layer does not have, as when queries and keys are different texts.

        Raises:
            ArgumentError: neither direction is there, a word is there more than once, or there are no tokens.

        References:
            Clark et al., What does BERT look at?, arXiv:1906.04341, section 4.1.
        """
        there, words, problem = self._direction(word, other, sequence)
        back, reverse, _ = self._direction(other, word, sequence)
        if words is None and reverse is None:
            assert problem is not None, "a direction is there or says why it is not"
            raise problem
        names = words or (reverse or ("", ""))[::-1]
        return PairWeights(word=names[0], other=names[1], there=there, back=back)

    def redundancy(self, measure: str = "cosine") -> Tensor:
        """Return how alike the maps of each two heads are, (heads, heads), the mean over the sequences.

        Args:
            measure: ``"cosine"``, 0 to 1, or ``"kl"``, KL(row's head ‖ column's head) in nats; see
                ``regard.functional.head_similarity``.

        Raises:
            ArgumentError: an unknown measure.
        """
        call, counted = self.call, self._counted()
        if call.query is None or call.key is None:
            assert call.scores is not None, "a call has queries or scores"
            return similarity_of_scores(call.scores, measure, counted).nanmean(0)
        parts, masks = [call], [counted]
        if call.offsets is not None:
            parts = list(call.sequences())
            masks = [None if counted is None else counted[:, call.query_slice(at)] for at in range(len(parts))]
        similar = [
            head_similarity(one.query, one.key, measure=measure, query_mask=mask, lse=one.lse, **one.masking)
            for one, mask in zip(parts, masks, strict=True)
            if one.query is not None and one.key is not None
        ]
        return torch.cat(similar).nanmean(0)

    def pattern_error(self, pattern: Pattern, *, rows: int = 256, seed: int = 0) -> PatternError:
        """Measure what it would change to let each query of this call see only what ``pattern`` allows.

        Args:
            pattern: as ``regard.functional.patterns`` makes them.
            rows: how many rows of each sequence to draw.
            seed: of the draw.

        Raises:
            ArgumentError: a model that computes its softmax itself, packed sequences, a pattern that does not fit.
        """
        call = self.call
        if call.query is None or call.key is None or call.value is None or call.offsets is not None:
            raise ArgumentError(
                "The error of a pattern needs query, key and value of a usual batch, got a call that computed its "
                "softmax itself or packed sequences; let the model use scaled_dot_product_attention."
            )
        masking = {name: given for name, given in call.masking.items() if name != "pattern"}
        return pattern_error(call.query, call.key, call.value, pattern, rows=rows, seed=seed, **masking)

    def words(self, side: Literal["query", "key"] = "key", *, sequence: int = 0) -> list[Word]:
        """Return the words of the queries or of the keys of a sequence.

        Raises:
            ArgumentError: tokens are not known, or there is no such sequence.
        """
        _check_index("sequence", sequence, self.call.num_sequences)
        tokens = self.query_tokens if side == "query" else self.key_tokens
        if tokens is None:
            raise ArgumentError(f"Words need the tokens of the {side} side, got none; give {side}_tokens.")
        return words_of(tokens[sequence])

    def _word(self, side: Literal["query", "key"], wanted: str | int, sequence: int) -> Word:
        """Return the one word that is meant, or raise."""
        words = self.words(side, sequence=sequence)
        if isinstance(wanted, int):
            part = self._part(sequence)
            _check_index(side, wanted, part.q_len if side == "query" else part.kv_len)
            return next(word for word in words if wanted in word.tokens)
        found = find_words(words, wanted)
        if len(found) > 1:
            places = [word.tokens[0] for word in found]
            raise ArgumentError(
                f"A word that is there once is needed, got {wanted!r} at the tokens {places}; give one of them."
            )
        return found[0]

    def _direction(
        self, word: str | int, other: str | int, sequence: int
    ) -> tuple[Tensor, tuple[str, str] | None, ArgumentError | None]:
        """Return (heads,) weights from one word to another and their texts; NaN and why where they are not there."""
        try:
            query = self._word("query", word, sequence)
            key = self._word("key", other, sequence)
        except ArgumentError as problem:
            return torch.full((self.call.num_heads,), torch.nan), None, problem
        weights = self._block(sequence, query.tokens, key.tokens)
        return weights.sum(-1).mean(-1).cpu(), (query.text, key.text), None

    def _block(self, sequence: int, rows: Index, keys: Index, head: int | None = None) -> Tensor:
        """Return the weights of one head or all of a sequence, (heads, rows, keys)."""
        call = self._part(sequence, head)
        row_at, key_at = _index("rows", rows, call.q_len, call), _index("keys", keys, call.kv_len, call)
        if call.query is None or call.key is None:
            assert call.scores is not None, "a call has queries or scores"
            return weights_of_scores(call.scores[0], row_at, key_at)
        return attention_weights(call.query, call.key, rows=row_at, keys=key_at, lse=call.lse, **call.masking)[0]

    def _shares(self, weights: Tensor, head: int, sequence: int) -> Tensor | None:
        """Return weight · |value| of each key as a share of their sum, (kv_len,), or None without values."""
        value = self._part(sequence, head).value
        if value is None:
            return None
        norms = torch.linalg.vector_norm(value[0, 0], dim=-1, dtype=weights.dtype)
        parts = weights * norms
        shares: Tensor = parts / parts.sum()
        return shares

    def _part(self, sequence: int, head: int | None = None) -> AttentionCall:
        """Return one sequence, and one head of it or all; views, as scores may be large."""
        _check_index("sequence", sequence, self.call.num_sequences)
        part = self.call.sequence(sequence)
        return part if head is None else _one_head(part, head)

    def _counted(self) -> Tensor | None:
        mask = self.call.attn_mask
        if self.query_mask is not None or mask is None:
            return self.query_mask
        of_keys = mask.shape[1] == mask.shape[2] == 1 and mask.shape[3] == self.call.q_len
        return mask[:, 0, 0].expand(self.call.batch, -1) if self.call.q_len == self.call.kv_len and of_keys else None


def explain(kept: Mapping[str, Kept], word: str | int, other: str | int, *, sequence: int = 0) -> Explanation:
    """Return the weights between two words in every head of every kept layer, both ways.

    Args:
        kept: dotted name of the layer -> its call.
        word: a word, whatever its case, or the index of one of its tokens.
        other: another one, likewise.
        sequence: which sequence of the batch.

    Raises:
        ArgumentError: no layer has the pair; the message is that of the first layer.
    """
    layers: dict[str, PairWeights] = {}
    problems: dict[str, ArgumentError] = {}
    for layer, one in kept.items():
        try:
            layers[layer] = one.between(word, other, sequence=sequence)
        except ArgumentError as problem:
            problems[layer] = problem
    if not layers:
        raise next(iter(problems.values()), ArgumentError("explain needs at least one kept layer, got none."))
    first = next(iter(layers.values()))
    left_out = {layer: str(problem) for layer, problem in problems.items()}
    return Explanation(word=first.word, other=first.other, layers=layers, left_out=left_out)


def _one_head(call: AttentionCall, head: int) -> AttentionCall:
    parts: dict[str, Any] = {}
    for field in fields(call):
        tensor = getattr(call, field.name)
        if field.name == "alibi_slopes" and tensor is not None:
            parts[field.name] = tensor[head : head + 1]
        elif isinstance(tensor, Tensor) and tensor.shape[1] > 1:
            # Each of several key heads serves a group of query heads.
            at = head // (call.num_heads // tensor.shape[1]) if field.name in _OF_KEY_HEADS else head
            parts[field.name] = tensor[:, at : at + 1]
    return replace(call, **parts, statistics=None)


def _index(name: str, wanted: Index, length: int, call: AttentionCall) -> Tensor | slice:
    if wanted is None:
        return slice(None)
    if isinstance(wanted, slice):
        if wanted.step is not None and wanted.step < 1:
            raise ArgumentError(f"{name} must be a slice that goes forwards, got {wanted}; give indices instead.")
        return wanted
    indices = wanted if isinstance(wanted, Tensor) else torch.tensor(list(wanted), dtype=torch.int64)
    for index in indices.tolist():
        _check_index(name, index, length)
    return indices.to(call.device)


def _check_index(name: str, index: int, length: int) -> None:
    if not 0 <= index < length:
        raise ArgumentError(f"{name} must lie in 0 to {length - 1}, got {index}.")
