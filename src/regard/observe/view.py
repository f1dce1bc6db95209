"""What has been seen so far: statistics per layer and head, single weights, and the list of what was not seen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from regard._errors import ArgumentError
from regard.observe.calls import AttentionCall
from regard.observe.coverage import Coverage, kernels_of, uncovered_reason
from regard.observe.explanation import Explanation
from regard.observe.kept import Kept, TopKey, explain
from regard.observe.moments import Moments
from regard.observe.observer import LastCall, Observer
from regard.observe.plan import STATISTICS
from regard.observe.ranks import gathered
from regard.observe.table import Table
from regard.observe.words import token_texts

__all__ = ["STATISTICS", "View"]


class View:
    """The statistics of a watched model; made by ``watch``, not by hand.

    Example:
        >>> with regard.watch(model) as view:
        ...     _ = model(inputs)
        >>> view["encoder.layer.0.attention"]["entropy"].shape  # one mean per head
        torch.Size([12])
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    # statistics

    def __getitem__(self, layer: str) -> dict[str, Tensor]:
        """Return statistic -> (heads,) float64 mean over all rows seen of ``layer``; NaN where no row counted.

        Args:
            layer: dotted name of an attention layer, or of a module that holds exactly one: ``"encoder.layer.3"``.
        """
        name = self._one(layer, self.layers, "statistics")
        return {what: moments.mean[0] for (where, what), moments in self._seen.totals.items() if where == name}

    @property
    def layers(self) -> list[str]:
        """Dotted names of the modules whose statistics were taken, in the order of the model's first call."""
        return list(dict.fromkeys(layer for layer, _ in self._seen.totals))

    def table(self) -> Table:
        """Return one plain row per layer, head and statistic over everything seen.

        Each row has ``layer``, ``statistic``, ``head``, ``mean``, ``se`` (standard error; 0 where every row was taken),
        ``minimum``, ``maximum``, ``num_rows`` and ``num_empty_rows``; then how the means of single sequences lie:
        ``sequence_std``, ``sequence_minimum``, ``sequence_maximum`` and ``sequence_share``, the share of the variance
        that lies between sequences. ``Table.df()`` and ``Table.pl()`` make a data frame of them.
        """
        return _table(self._seen.totals)

    def inconsistent(self, threshold: float = 8.0) -> Table:
        """Return the layers, heads and statistics whose last step lies far from the steps before it.

        Args:
            threshold: least robust score, in standard deviations of a normal distribution; see ``ChangeScores``.
        """
        return Table(self._seen.changes.inconsistent(threshold))

    def changes(self, layer: str, statistic: str) -> Tensor:
        """Return the robust change score of each head, (heads,): how far the last step lies from those before it."""
        return self._seen.changes.scores(self._one(layer, self.layers, "statistics"), statistic)

    def gathered(self) -> Table:
        """Return the table over all processes of ``torch.distributed``, the same in each; every process must call it.

        Sums merge, so that it equals the table of one process that saw all the rows, to float64 rounding.
        """
        return _table(gathered(self._seen.totals))

    # single weights

    def kept(self, layer: str, *, tokenizer: Any = None) -> Kept:
        """Return the last call of ``layer`` to look at closely; ``watch(..., keep=True)`` keeps it.

        Args:
            layer: dotted name of an attention layer, or of a module that holds exactly one.
            tokenizer: names the tokens: a ``transformers`` tokenizer, ``tokenizers.Tokenizer``, or a function from ids
                to a list of tokens. None for no names.
        """
        name = self._one(layer, list(self._seen.kept), "a kept call; watch(..., keep=True) keeps them")
        return _kept(self._seen.kept[name], tokenizer)

    def weights(
        self,
        layer: str,
        head: int,
        *,
        sequence: int = 0,
        rows: Sequence[int] | slice | None = None,
        keys: Sequence[int] | slice | None = None,
    ) -> Tensor:
        """Return a block of attention weights of the last call of ``layer``, (rows, keys), computed now.

        Args:
            layer: as for ``kept``.
            head: which head.
            sequence: which sequence of the batch.
            rows: which queries; None for all.
            keys: which keys; None for all.
        """
        return self.kept(layer).weights(head, sequence=sequence, rows=rows, keys=keys)

    def top(
        self, layer: str, head: int, query: int | str, *, sequence: int = 0, k: int = 10, tokenizer: Any = None
    ) -> list[TopKey]:
        """Return the ``k`` keys that a query puts most weight on, heaviest first.

        Args:
            layer: as for ``kept``.
            head: which head.
            query: its index, or the word that it is (then with a tokenizer).
            sequence: which sequence of the batch.
            k: how many keys.
            tokenizer: as for ``kept``.
        """
        return self.kept(layer, tokenizer=tokenizer).top(head, query, sequence=sequence, k=k)

    def explain(self, word: str | int, other: str | int, *, tokenizer: Any, sequence: int = 0) -> Explanation:
        """Return how much every head of every kept layer looks from one word to another, both ways.

        Args:
            word: a word of the sequence, or the index of one of its tokens where it comes twice.
            other: another one.
            tokenizer: as for ``kept``.
            sequence: which sequence of the batch.
        """
        if not self._seen.kept:
            raise ArgumentError("explain needs kept calls, got none; watch(..., keep=True) keeps them.")
        kept = {layer: _kept(last, tokenizer) for layer, last in self._seen.kept.items()}
        return explain(kept, word, other, sequence=sequence)

    def redundancy(self, layer: str, measure: Literal["cosine", "kl"] = "cosine") -> Tensor:
        """Return how alike the maps of two heads are, (heads, heads), in the last call of ``layer``.

        Args:
            layer: as for ``kept``.
            measure: ``"cosine"`` of the maps, or ``"kl"`` divergence of the row's head from the column's, in nats.
        """
        return self.kept(layer).redundancy(measure)

    # what was seen

    def coverage(self) -> list[Coverage]:
        """Return every attention module of the model: how often it was seen, or why it was not."""
        entries = self._seen.coverage
        seen = [name for name, entry in entries.items() if entry.seen]
        for name, entry in entries.items():
            if not entry.seen:
                entry.reason = uncovered_reason(self._observer.layers.modules[name], seen)
        return list(entries.values())

    def calls(self) -> Table:
        """Return the last calls, at most 1,000: step, layer, kind, mask, kernel, lengths, heads and type of each."""
        return Table(self._seen.calls)

    def kernels(self) -> dict[str, int]:
        """Return how often each attention kernel ran."""
        return kernels_of(self._seen.coverage)

    # what the watching loop tells and takes

    def take_seconds(self) -> float:
        """Return the seconds spent on statistics since the last time this was asked (host time; a GPU runs on)."""
        seconds, self._observer.seconds = self._observer.seconds, 0.0
        return seconds

    def take_kernels(self) -> dict[str, int]:
        """Return how often each kernel ran since the last time this was asked."""
        kernels, self._observer.kernels = dict(self._observer.kernels), Counter()
        return kernels

    @property
    def step(self) -> int:
        """The step that calls are counted under; the first is 1."""
        return self._observer.step

    def at(self, step: int) -> None:
        """Say which step the following calls belong to; without it each forward of the model is a step."""
        self._observer.at(step)

    @property
    def _seen(self) -> Observer:
        """What was seen, with a softmax whose product may still be waited for."""
        self._observer.capture.finish()
        return self._observer

    def _one(self, layer: str, known: Sequence[str], what: str) -> str:
        """Return the name in ``known`` that ``layer`` is or that alone lies below it."""
        if layer in known:
            return layer
        below = [name for name in known if name.startswith(f"{layer}.")]
        if len(below) == 1:
            return below[0]
        found = f"it holds {below}" if below else f"there are {list(known)}"
        raise ArgumentError(f"A layer with {what} is needed, got {layer!r}: {found}.")


def _table(totals: Mapping[tuple[str, str], Moments]) -> Table:
    rows: list[dict[str, Any]] = []
    for (layer, statistic), moments in totals.items():
        columns = {
            "mean": moments.mean,
            "se": moments.standard_error,
            "minimum": moments.minimum,
            "maximum": moments.maximum,
            "num_rows": moments.num_rows.long(),
            "num_empty_rows": moments.num_empty.long(),
            "sequence_std": moments.sequence_std,
            "sequence_minimum": moments.sequence_minimum,
            "sequence_maximum": moments.sequence_maximum,
            "sequence_share": moments.sequence_share,
        }
        plain = {name: column[0].tolist() for name, column in columns.items()}
        where = {"layer": layer, "statistic": statistic}
        seen = (moments.num_rows + moments.num_empty)[0] > 0
        heads = range(len(seen)) if not bool(seen.any()) else seen.nonzero()[:, 0].tolist()
        rows += [{**where, "head": head, **{name: plain[name][head] for name in plain}} for head in heads]
    return Table(rows)


def _kept(last: LastCall, tokenizer: Any) -> Kept:
    named: dict[str, Any] = {}
    for name, ids in (("query_tokens", last.query_ids), ("key_tokens", last.key_ids)):
        length = last.call.q_len if name == "query_tokens" else last.call.kv_len
        if tokenizer is not None and ids is not None and tuple(ids.shape) == (last.call.batch, length):
            texts = _sequences(ids, last.call, name)
            named[name] = [token_texts(tokenizer, sequence.tolist()) for sequence in texts]
    return Kept(call=last.call, step=last.step, query_mask=last.query_mask, **named)


def _sequences(ids: Tensor, call: AttentionCall, name: str) -> Sequence[Tensor]:
    """Return the token ids (batch, len) of each sequence, also of packed ones."""
    if call.offsets is None:
        return list(ids)
    lengths = [pair[0 if name == "query_tokens" else 1] for pair in call.lengths]
    sequences: Sequence[Tensor] = ids[0].split(lengths)
    return sequences
